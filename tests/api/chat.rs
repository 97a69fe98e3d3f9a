//! `rookery chat` on a pipe: what its commands do at a real node.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::world::{PASSWORD, Person, World, number, unique, within};

/// The program, signed in as somebody.
struct Terminal {
    _process: Child,
    keyboard: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
}

impl Person {
    async fn sits_down(&self) -> Terminal {
        self.sits_down_at("").await
    }

    /// At a device of this platform.
    async fn sits_down_at(&self, platform: &str) -> Terminal {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rookery"))
            .args(["chat", "--server", self.world.node.address("http")])
            .args(["--user", &self.name, "--password", PASSWORD, "--platform", platform])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary was built for these tests");
        let keyboard = process.stdin.take().expect("it is a pipe");
        let screen = BufReader::new(process.stdout.take().expect("it is a pipe")).lines();
        let mut terminal = Terminal { _process: process, keyboard, screen };
        terminal.shows("connected").await;
        terminal
    }
}

impl Terminal {
    async fn types(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    /// The next line with this in it.
    async fn shows(&mut self, part: &str) -> String {
        within(part, async {
            loop {
                match self.screen.next_line().await.expect("it writes") {
                    Some(line) if line.contains(part) => return line,
                    Some(_) => {}
                    None => panic!("it ended before it showed {part}"),
                }
            }
        })
        .await
    }

    /// Types a line, and waits for what must come of it.
    async fn does(&mut self, line: &str, part: &str) -> String {
        self.types(line).await;
        self.shows(part).await
    }
}

#[tokio::test]
async fn groups_and_messages_are_looked_after_from_the_terminal() {
    let world = World::shared();
    let (ada, bob) = world.two("ada", "bob").await;
    let eve = world.person("eve").await;
    let id = ada.founds_a_group("club", &[]).await;
    let (bobs, eves) = (&bob.name, &eve.name);
    let mut terminal = ada.sits_down().await;
    terminal.does(&format!("addmember {id} {bobs}"), "is in the group now").await;
    terminal.does(&format!("role {id} {bobs} admin"), "is admin now").await;
    terminal.does(&format!("members {id}"), "admin").await;
    terminal.does(&format!("rename {id} the rookery"), "called the rookery").await;
    terminal.does(&format!("topic {id} all about it"), "changed").await;
    terminal.does(&format!("announce:{id}:tonight: caw"), "announced").await;
    terminal.does(&format!("keep {id} 86400"), "after 86400 s").await;
    terminal.does(&format!("mute {id}"), "muted for 8 h").await;
    let seen = ada.sees(id).await;
    assert_eq!(
        (&seen["name"], &seen["description"], &seen["announcement"], number(&seen, "retention_seconds")),
        (&"the rookery".into(), &"all about it".into(), &"tonight: caw".into(), 86_400)
    );
    assert!(number(&seen, "muted_until_ms") > 0);

    let line = terminal.does(&format!("invite {id} 1"), "joincode").await;
    let code = line.split_once("joincode ").map(|(_, code)| code.trim_matches(['\'', ' '])).expect("a code");
    let mut other = eve.sits_down().await;
    other.does(&format!("joincode {code}"), "joined the rookery").await;
    terminal.does(&format!("silence {id} {eves} 5"), "may not write for 5 min").await;
    other.does(&format!("sendgroup {id} may I?"), "silenced").await;
    terminal.does(&format!("silence {id} {eves} 0"), "may write again").await;
    terminal.does(&format!("silenceall {id} on"), "only the owner and admins").await;
    terminal.does(&format!("silenceall {id} off"), "all may write again").await;

    let word = format!("raven{}", unique());
    let line = terminal.does(&format!("sendgroup {id} {word}"), "sent to").await;
    let seq = line.rsplit_once("message ").map(|(_, seq)| seq.trim_matches([')', ' '])).expect("a seq");
    other.does(&format!("searchin {id} {word}"), &word).await;
    other.does(&format!("react {id} {seq} 👍"), "done").await;
    terminal.does(&format!("edit {id} {seq} {word} again"), "changed").await;
    terminal.does(&format!("pin {id} {seq}"), "pinned").await;
    other.does(&format!("pins {id}"), "again").await;
    terminal.does(&format!("unpin {id} {seq}"), "the pin is off").await;
    let to = eve.direct_with(&ada).await;
    other.does(&format!("forward {id} {seq} {to}"), "forwarded").await;
    other.does(&format!("hide {id} {seq}"), "hidden from you").await;
    let line = terminal.does(&format!("schedule {id} 60 later"), "unschedule").await;
    let kept =
        line.rsplit_once("unschedule ").map(|(_, kept)| kept.trim_matches(['\'', ' '])).expect("a number");
    terminal.does("scheduled", "in 60 min: later").await;
    terminal.does(&format!("unschedule {kept}"), "taken back").await;
    terminal.does("scheduled", "nothing is scheduled").await;
    terminal.does(&format!("recall {id} {seq}"), "taken back").await;

    terminal.does(&format!("removemember {id} {eves}"), "was removed").await;
    terminal.does(&format!("ban {id} {eves} cawing"), "can't come back").await;
    other.does(&format!("joingroup {id}"), "banned").await;
    terminal.does(&format!("unban {id} {eves}"), "may come back").await;
    terminal.does("help", "searchin ID TEXT").await;
    terminal.does(&format!("dissolve {id}"), "ended for all").await;
}

#[tokio::test]
async fn a_terminal_names_its_platform() {
    let world = World::with(&[("accounts.device_policy", "one_per_platform")]);
    let ada = world.person("ada").await;
    let mut desk = ada.sits_down_at("desk").await;
    let mut pocket = ada.sits_down_at("pocket").await;
    let mut new_desk = ada.sits_down_at("desk").await;
    desk.shows("signed out by the server").await;
    for terminal in [&mut pocket, &mut new_desk] {
        terminal.does("pull", "up to date").await;
    }
}
