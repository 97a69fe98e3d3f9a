//! What the full-screen client looks like: the conversations at the left, the messages of one, the line to type in,
//! and a line of news. Draws what it is given and decides nothing.

use std::time::Instant;

use chrono::{DateTime, Local, NaiveDate};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line as Row, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::Screen;
use super::line::wrap;
use super::model::{Model, Pending, Room, presence_word};
use crate::protocol::{ConversationKind, MemberRole, MessageKind, v1};

/// Columns of the list of conversations.
const LIST_WIDTH: u16 = 28;
/// Narrower screens show the list or the messages, not both.
const NARROW: u16 = 64;
/// Names have colours of their own, so that speakers are told apart.
const NAME_COLOURS: [Color; 6] =
    [Color::Cyan, Color::Green, Color::Yellow, Color::Magenta, Color::Blue, Color::LightRed];

const HELP: &str = "\
Enter            send
Alt-Up/Alt-Down  conversation before, behind (also Ctrl-P, Ctrl-N)
Tab              next conversation with something unread
PageUp/PageDown  earlier and later messages
Up               edit the last message of your own (on an empty line)
Esc              leave editing; the conversation; this help
Ctrl-C           quit

/to NAME TEXT    write to a user          /open NAME     show a conversation
/reply TEXT      answer the last message  /react EMOJI   react to it
/edit TEXT       change your last message /recall        take it back
/group NAME      make a group             /join ID       join one
/add NAME        ask to be friends        /invite NAME   add to this group
/leave           leave this group         /status WORD   online, away, busy, invisible
/help            this                     /quit          quit";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen, now: Instant) {
    let model = &screen.model;
    let [main, news] = Layout::vertical([Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    let narrow = main.width < NARROW;
    let list_width = match (narrow, model.open) {
        (true, None) => main.width,
        (true, Some(_)) => 0,
        (false, _) => LIST_WIDTH,
    };
    let [left, right] = Layout::horizontal([Constraint::Length(list_width), Constraint::Min(0)]).areas(main);
    if left.width > 0 {
        draw_list(frame, left, model);
    }
    if right.width > 0 {
        let [head, log, input] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(3)]).areas(right);
        draw_head(frame, head, model, now);
        draw_log(frame, log, model);
        draw_input(frame, input, screen);
    }
    draw_news(frame, news, model);
    if screen.help {
        draw_help(frame, main);
    }
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = Block::new().borders(Borders::RIGHT).title(" Conversations ".bold());
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let list = model.list();
    // What is open stays in sight.
    let at = model.open.and_then(|open| list.iter().position(|id| *id == open)).unwrap_or(0);
    let height = usize::from(inner.height).max(1);
    let from = (at + 1).saturating_sub(height);
    let rows: Vec<Row<'_>> = list
        .iter()
        .skip(from)
        .take(height)
        .map(|id| list_row(model, &model.rooms[id], model.open == Some(*id), usize::from(inner.width)))
        .collect();
    if rows.is_empty() {
        frame.render_widget(Paragraph::new(" none yet; /to NAME TEXT begins one").dim(), inner);
        return;
    }
    frame.render_widget(Paragraph::new(rows), inner);
}

fn list_row<'a>(model: &Model, room: &Room, is_open: bool, width: usize) -> Row<'a> {
    let mark = match room.peer() {
        Some(peer) => presence_word(model.presence(peer)).0,
        None => "#",
    };
    let unread = match room.unread {
        0 => String::new(),
        many if many > 99 => " 99+".to_owned(),
        some => format!(" {some}"),
    };
    let pin = if room.conversation.pinned { "*" } else { "" };
    let space = width.saturating_sub(2 + unread.len() + pin.len());
    let title = wrap(&model.title(room), space.max(2)).swap_remove(0);
    let fill = " ".repeat(space.saturating_sub(Span::raw(title.as_str()).width()));
    let mut style = Style::new();
    if room.unread > 0 {
        style = style.add_modifier(Modifier::BOLD);
    }
    if is_open {
        style = style.add_modifier(Modifier::REVERSED);
    }
    Row::from(vec![
        Span::styled(format!("{mark} {pin}{title}{fill}"), style),
        Span::styled(unread, style.fg(Color::Yellow)),
    ])
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model, now: Instant) {
    let Some(room) = model.open_room() else {
        frame.render_widget(Paragraph::new(" Rookery. /help lists the commands.").bold(), area);
        return;
    };
    let conversation = &room.conversation;
    let about = match room.peer() {
        Some(peer) => presence_word(model.presence(peer)).1,
        None => {
            let role = match conversation.role() {
                MemberRole::Owner => ", you own it",
                MemberRole::Admin => ", you are an admin",
                MemberRole::Member => "",
            };
            format!("{} members{role}", conversation.member_count)
        }
    };
    let typing = room.typing(now);
    let typing = match typing.as_slice() {
        [] => String::new(),
        [one] => format!("  {} types …", model.name(*one)),
        several => format!("  {} type …", several.len()),
    };
    let row = Row::from(vec![
        Span::raw(format!(" {} ", model.title(room))).bold(),
        Span::raw(about).dim(),
        Span::raw(typing).italic(),
    ]);
    frame.render_widget(Paragraph::new(row), area);
}

fn draw_log(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(room) = model.open_room() else { return };
    let height = usize::from(area.height);
    let wanted = height + model.scrolled;
    // From the newest up, so that only what is seen is made.
    let mut rows: Vec<Row<'_>> = Vec::new();
    let here =
        |pending: &&Pending| pending.conversation_id.is_some() && pending.conversation_id == model.open;
    for pending in model.pending.iter().rev().filter(here) {
        let lines = wrap(&format!("… {}", pending.text), usize::from(area.width).saturating_sub(8));
        rows.extend(lines.into_iter().rev().map(|line| Row::raw(format!("       {line}")).dim()));
    }
    let mut messages = room.messages.values().rev().peekable();
    while let Some(message) = messages.next() {
        let before = messages.peek();
        let mut of_message = message_rows(model, room, message, usize::from(area.width));
        if before.is_none_or(|before| day(before.created_at_ms) != day(message.created_at_ms)) {
            of_message
                .insert(0, Row::raw(format!(" ── {} ──", date(message.created_at_ms))).dim().centered());
        }
        of_message.reverse();
        rows.extend(of_message);
        if rows.len() >= wanted {
            break;
        }
    }
    let scrolled = model.scrolled.min(rows.len().saturating_sub(height));
    let mut seen: Vec<Row<'_>> = rows.into_iter().skip(scrolled).take(height).collect();
    seen.reverse();
    let top = area.height.saturating_sub(seen.len() as u16);
    let area = Rect { y: area.y + top, height: area.height - top, ..area };
    frame.render_widget(Paragraph::new(seen), area);
}

fn message_rows<'a>(model: &Model, room: &Room, message: &v1::Message, width: usize) -> Vec<Row<'a>> {
    let name = model.name(message.sender_id);
    if message.kind() == MessageKind::System {
        return wrap(&format!("* {name} {}", message.text), width.saturating_sub(1))
            .into_iter()
            .map(|line| Row::raw(format!(" {line}")).dim())
            .collect();
    }
    let colour = NAME_COLOURS[message.sender_id as usize % NAME_COLOURS.len()];
    let own = message.sender_id == model.own_id;
    let mut head = vec![
        Span::raw(format!(" {} ", time(message.created_at_ms))).dim(),
        Span::styled(name, Style::new().fg(colour).add_modifier(Modifier::BOLD)),
    ];
    if message.edited_at_ms != 0 && !message.recalled {
        head.push(Span::raw(" (edited)").dim());
    }
    if own && room.conversation.kind() == ConversationKind::Direct {
        let ticks = if room.conversation.peer_read_seq >= message.seq {
            " ✓✓ read"
        } else if room.conversation.peer_delivered_seq >= message.seq {
            " ✓✓"
        } else {
            " ✓"
        };
        head.push(Span::raw(ticks).dim());
    }
    let mut rows = vec![Row::from(head)];
    let inside = width.saturating_sub(8);
    if message.reply_to_seq != 0 {
        let quoted = room.messages.get(&message.reply_to_seq).map_or_else(
            || format!("message {}", message.reply_to_seq),
            |to| format!("{}: {}", model.name(to.sender_id), to.text),
        );
        let quoted = wrap(&quoted, inside.saturating_sub(2)).swap_remove(0);
        rows.push(Row::raw(format!("       ┃ {quoted}")).dim());
    }
    let body = wrap(&content(message), inside).into_iter().map(|line| {
        let row = Row::raw(format!("       {line}"));
        if message.recalled { row.dim().italic() } else { row }
    });
    rows.extend(body);
    if !message.reactions.is_empty() {
        let chips = message.reactions.iter().map(|one| format!("{} {}", one.emoji, one.user_ids.len()));
        let chips = chips.collect::<Vec<_>>().join("  ");
        rows.extend(wrap(&chips, inside).into_iter().map(|line| Row::raw(format!("       {line}")).yellow()));
    }
    rows
}

/// What a message says, whatever its kind.
fn content(message: &v1::Message) -> String {
    if message.recalled {
        return "taken back".to_owned();
    }
    let files: Vec<String> = message
        .attachments
        .iter()
        .map(|file| format!("[{} {}]", message.kind().as_str_name(), file.name))
        .collect();
    match (files.is_empty(), message.text.is_empty()) {
        (true, _) => message.text.clone(),
        (false, true) => files.join(" "),
        (false, false) => format!("{} {}", files.join(" "), message.text),
    }
}

fn draw_input(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let title = screen.intent.title();
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    let (text, column) = screen.line.window(inner.width.saturating_sub(1));
    frame.render_widget(Paragraph::new(text).block(block), area);
    frame.set_cursor_position(Position { x: inner.x + column, y: inner.y });
}

fn draw_news(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let (mark, colour) = match &model.connected_to {
        Some(_) => ("●", Color::Green),
        None => ("○", Color::Red),
    };
    let elsewhere: u64 =
        model.list().iter().filter(|id| model.open != Some(**id)).map(|id| model.rooms[id].unread).sum();
    let unread = if elsewhere == 0 { String::new() } else { format!("{elsewhere} unread (Tab)  ") };
    let pending = match model.pending.len() {
        0 => String::new(),
        some => format!("{some} not stored yet  "),
    };
    let row = Row::from(vec![
        Span::raw(format!(" {mark} ")).fg(colour),
        Span::raw(pending).yellow(),
        Span::raw(unread).yellow(),
        Span::raw(model.note.clone()),
    ]);
    frame.render_widget(Paragraph::new(row), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines = HELP.lines().count() as u16;
    let wide = HELP.lines().map(str::len).max().unwrap_or(0) as u16;
    let size = (area.width.min(wide + 4), area.height.min(lines + 2));
    let area = Rect {
        x: area.x + (area.width - size.0) / 2,
        y: area.y + (area.height - size.1) / 2,
        width: size.0,
        height: size.1,
    };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" Help ")), area);
}

/// The day in the user's own time zone.
fn day(ms: u64) -> NaiveDate {
    local(ms).date_naive()
}

fn time(ms: u64) -> String {
    local(ms).format("%H:%M").to_string()
}

fn date(ms: u64) -> String {
    let day = day(ms);
    if day == Local::now().date_naive() {
        "today".to_owned()
    } else {
        day.format("%A, %-d %B %Y").to_string()
    }
}

fn local(ms: u64) -> DateTime<Local> {
    DateTime::from_timestamp_millis(ms as i64).unwrap_or_default().with_timezone(&Local)
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
