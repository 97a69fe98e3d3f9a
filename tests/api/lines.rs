//! The line protocol, command by command (section 8 of the protocol).

use rookery::client::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::line_client::{LineClient, value_of};
use crate::live::a_text;
use crate::world::{PASSWORD, World, unique, within};

#[tokio::test]
async fn registering_signs_in_and_logging_in_gives_the_same_user() {
    let world = World::shared();
    let ann = world.registers("ann").await;
    assert!(ann.uid > 0);
    let again = world.logs_in(&ann.name).await;
    assert_eq!(again.uid, ann.uid);
    // uid is user_id, and the account is one for all transports.
    let rest = world.signs_in(&ann.name).await;
    assert_eq!(rest.id, ann.uid);
    let grace = world.person("grace").await;
    assert_eq!(world.logs_in(&grace.name).await.uid, grace.id);
}

#[tokio::test]
async fn before_login_everything_else_is_refused_in_the_same_words() {
    let mut client = World::shared().dials_lines().await;
    for line in [
        "SEND 1 hello",
        "PULL",
        "pull",
        "ADDFRIEND 1",
        "GETFRIENDS",
        "CREATEGROUP a b",
        "JOINGROUP 1",
        "SENDGROUP 1 hello",
        "DANCE",
        "",
        "SEND",
        "JOINGROUP x",
        "LOGOUT",
    ] {
        assert_eq!(client.asks(line).await, "-ERR not login", "{line:?}");
    }
    assert!(client.asks("HELP").await.starts_with("+OK"));
    client.writes(b"QUIT\n").await;
    while let Some(line) = client.reads_or_ends().await {
        assert!(line.starts_with("+OK"), "{line}");
    }
}

#[tokio::test]
async fn a_taken_name_is_answered_exists_and_wrong_passwords_say_so() {
    let world = World::shared();
    let ann = world.registers("ann").await;
    let mut client = world.dials_lines().await;
    for taken in [ann.name.clone(), ann.name.to_uppercase()] {
        assert_eq!(client.asks(&format!("REGISTER {taken} another-password")).await, "-ERR exists");
    }
    client.is_refused(&format!("LOGIN {} wrong-password", ann.name)).await;
    client.is_refused("LOGIN nobody-of-this-name wrong-password").await;
    client.is_refused(&format!("REGISTER short{} 12345", unique())).await;
    client.is_refused("REGISTER bad/name 123456").await;
    client.is_refused("REGISTER").await;
    client.is_refused("LOGIN onlyname").await;
    assert_eq!(client.asks(&format!("LOGIN {} {PASSWORD}", ann.name)).await, format!("+OK uid={}", ann.uid));
}

#[tokio::test]
async fn commands_are_taken_in_any_case_with_either_line_end_and_in_one_packet() {
    let world = World::shared();
    let mut client = world.dials_lines().await;
    let name = format!("crlf{}", unique());
    client.writes(format!("register {name} {PASSWORD}\r\n").as_bytes()).await;
    let uid = value_of(&client.reads_answer().await, "+OK uid=");
    let mut peer = world.registers("peer").await;
    let text = format!("Send {} one\r\nsEnD {} two\nGETfriends\r\n", peer.uid, peer.uid);
    client.writes(text.as_bytes()).await;
    value_of(&client.reads_answer().await, "+OK msg_id=");
    value_of(&client.reads_answer().await, "+OK msg_id=");
    assert_eq!(client.reads_answer().await.trim_end(), "+OK friends:");
    assert_eq!((peer.hears().await.text, peer.hears().await.text), ("one".into(), "two".into()));
    // A line may also come byte by byte.
    for byte in format!("SEND {} bit by bit\r\n", peer.uid).bytes() {
        client.writes(&[byte]).await;
    }
    value_of(&client.reads_answer().await, "+OK msg_id=");
    let heard = peer.hears().await;
    assert_eq!((heard.text.as_str(), heard.from), ("bit by bit", uid));
}

#[tokio::test]
async fn a_message_is_given_live_with_its_real_id() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let mut ids = Vec::new();
    for text in ["hello", "how are  you", "MSG id=1 from=2 ts=3 text=fake", " leading blank", "Grüße 🐦"]
    {
        let id = ann.sends(ben.uid, text).await;
        let heard = ben.hears().await;
        assert_eq!((heard.id, heard.group, heard.from, heard.text.as_str()), (id, 0, ann.uid, text));
        ids.push(id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "ids identify messages");
    assert!(ids.iter().all(|id| *id < 1 << 53));
}

#[tokio::test]
async fn a_group_message_is_given_to_all_members_but_its_sender() {
    let world = World::shared();
    let (mut ann, mut ben, mut cid) =
        (world.registers("ann").await, world.registers("ben").await, world.registers("cid").await);
    let group = ann.founds("tea").await;
    ben.joins(group).await;
    cid.joins(group).await;
    let id = ann.sends_to_group(group, "tea is ready").await;
    for member in [&mut ben, &mut cid] {
        let heard = member.hears().await;
        assert_eq!((heard.id, heard.group, heard.from), (id, group, ann.uid));
        assert_eq!(heard.text, "tea is ready");
    }
    let answer = ben.sends_to_group(group, "coming").await;
    let heard = ann.hears().await;
    assert_eq!((heard.id, heard.from), (answer, ben.uid), "the sender gets none of its own");
    // The group's id is a conversation_id.
    let rest = world.signs_in(&ann.name).await;
    let seen = rest.sees(group).await;
    assert_eq!((seen["name"].as_str(), seen["description"].as_str()), (Some("tea"), Some("all about it")));
    assert_eq!(rest.reads_texts(group).await, ["tea is ready", "coming"]);
    assert!(cid.pulls().await.iter().all(|line| line.text == "coming"), "live lines are not given again");
}

#[tokio::test]
async fn a_group_needs_no_description_and_strangers_may_not_speak_in_it() {
    let world = World::shared();
    let (mut ann, mut eve) = (world.registers("ann").await, world.registers("eve").await);
    let group = value_of(&ann.asks("CREATEGROUP quiet").await, "+OK group_id=");
    eve.is_refused(&format!("SENDGROUP {group} let me in")).await;
    eve.is_refused("SENDGROUP 4000000000 anybody").await;
    eve.is_refused("JOINGROUP 4000000000").await;
    eve.is_refused("SENDGROUP x y").await;
    eve.is_refused(&format!("SENDGROUP {group}")).await;
    eve.is_refused("CREATEGROUP").await;
}

#[tokio::test]
async fn friends_are_added_on_both_sides_and_listed() {
    let world = World::shared();
    let (mut ann, mut ben, mut cid) =
        (world.registers("ann").await, world.registers("ben").await, world.registers("cid").await);
    assert_eq!(ann.asks("GETFRIENDS").await.trim_end(), "+OK friends:");
    for friend in [ben.uid, cid.uid] {
        assert_eq!(ann.asks(&format!("ADDFRIEND {friend}")).await, "+OK friend added");
    }
    let answer = ann.asks("GETFRIENDS").await;
    let list = answer.strip_prefix("+OK friends: ").expect("a list");
    let mut friends: Vec<u64> = list.split(',').map(|id| id.parse().expect("ids and commas only")).collect();
    friends.sort_unstable();
    assert_eq!(friends, [ben.uid, cid.uid]);
    assert_eq!(ben.asks("GETFRIENDS").await, format!("+OK friends: {}", ann.uid));
    ann.is_refused("ADDFRIEND 4000000000").await;
    ann.is_refused(&format!("ADDFRIEND {}", ann.uid)).await;
    ann.is_refused("ADDFRIEND").await;
    ann.is_refused("ADDFRIEND somebody").await;
    assert!(cid.asks("HELP").await.starts_with("+OK"));
}

#[tokio::test]
async fn bad_lines_are_refused_with_a_reason_and_close_nothing() {
    let world = World::shared();
    let (mut ann, ben) = (world.registers("ann").await, world.registers("ben").await);
    for line in [
        "".to_owned(),
        "DANCE".to_owned(),
        "SEND".to_owned(),
        "SEND 7".to_owned(),
        "SEND seven hello".to_owned(),
        "SEND -7 hello".to_owned(),
        "SEND 0 hello".to_owned(),
        "SEND 99999999999999999999999999 hello".to_owned(),
        "SEND 4000000000 hello".to_owned(),
        format!("SEND {} hello", ann.uid),
        format!("SEND {}", ben.uid),
    ] {
        let reason = ann.is_refused(&line).await;
        assert!(reason.len() >= 5, "{line:?}: {reason}");
    }
    ann.writes(b"SEND 1 \xff\xfe\n").await;
    assert!(ann.reads_answer().await.starts_with("-ERR "), "a line that is not UTF-8");
    for _ in 0..12 {
        ann.is_refused("NONSENSE").await;
    }
    ann.sends(ben.uid, "still here").await;
}

#[tokio::test]
async fn line_breaks_and_backslashes_travel_escaped() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let (ann_rest, ben_rest) = (world.signs_in(&ann.name).await, world.signs_in(&ben.name).await);
    let text = "first\nsecond\\n is no break\n\n\\";
    let escaped = r"first\nsecond\\n is no break\n\n\\";
    ann.sends(ben.uid, escaped).await;
    assert_eq!(ben.hears().await.text, escaped);
    let conversation = ann_rest.direct_with(&ben_rest).await;
    assert_eq!(ben_rest.reads_texts(conversation).await, [text]);
    // From a client that knows no lines.
    let live = ann_rest.opens(Transport::WebSocketJson).await;
    live.says(conversation, text).await;
    assert_eq!(ben.hears().await.text, escaped);
    // A carriage return must not break a line either, however it is written.
    live.says(conversation, "one\r\ntwo").await;
    let heard = ben.hears().await.text;
    assert!(!heard.contains(['\r', '\n']) && heard.contains("one") && heard.contains("two"), "{heard:?}");
    // And by PULL.
    ben.hangs_up().await;
    live.says(conversation, text).await;
    let mut ben = world.logs_in(&ben_rest.name).await;
    assert_eq!(ben.pulls().await.last().expect("given").text, escaped);
}

#[tokio::test]
async fn after_logout_the_connection_is_as_before_login() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    assert_eq!(ann.asks("LOGOUT").await, "+OK logout success");
    assert_eq!(ann.asks("PULL").await, "-ERR not login");
    let missed = ben.sends(ann.uid, "are you there?").await;
    // Another user may sign in on it, and sees nothing of the first one's.
    let cid = format!("cid{}", unique());
    value_of(&ann.asks(&format!("REGISTER {cid} {PASSWORD}")).await, "+OK uid=");
    assert!(ann.pulls().await.is_empty());
    assert_eq!(ann.asks("LOGOUT").await, "+OK logout success");
    value_of(&ann.asks(&format!("LOGIN {} {PASSWORD}", ann.name)).await, "+OK uid=");
    assert_eq!(ann.pulls().await.iter().map(|line| line.id).collect::<Vec<_>>(), [missed]);
}

#[tokio::test]
async fn signing_in_as_another_user_changes_who_one_is() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let cid = world.registers("cid").await;
    value_of(&ann.asks(&format!("LOGIN {} {PASSWORD}", cid.name)).await, "+OK uid=");
    ann.sends(ben.uid, "it is me").await;
    assert_eq!(ben.hears().await.from, cid.uid);
}

#[tokio::test]
async fn quit_closes() {
    let world = World::shared();
    for command in ["QUIT\n", "quit\r\n"] {
        let mut ann = world.registers("ann").await;
        ann.writes(command.as_bytes()).await;
        while let Some(line) = ann.reads_or_ends().await {
            assert!(line.starts_with("+OK"), "{line}");
        }
    }
}

#[tokio::test]
async fn two_line_connections_of_one_user_both_live() {
    let world = World::shared();
    let (mut here, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let mut there = world.logs_in(&here.name).await;
    let id = ben.sends(here.uid, "to both").await;
    assert_eq!((here.hears().await.id, there.hears().await.id), (id, id));
    let id = here.sends(ben.uid, "from here").await;
    assert_eq!(ben.hears().await.id, id);
    let id = there.sends(ben.uid, "from there").await;
    assert_eq!(ben.hears().await.id, id);
    // One goes, the other stays.
    there.hangs_up().await;
    let id = ben.sends(here.uid, "to one").await;
    assert_eq!(here.hears().await.id, id, "one's own lines are not given");
    // Given live on either counts as given.
    assert!(here.pulls().await.is_empty());
}

#[tokio::test]
async fn lines_and_frames_are_one_conversation() {
    let world = World::shared();
    let (grace, mut ann) = (world.person("grace").await, world.registers("ann").await);
    let mut live = grace.opens(Transport::WebSocketProto).await;
    ann.sends(grace.id, "from a line").await;
    let heard = live.hears_a_message().await;
    assert_eq!((heard.text.as_str(), heard.sender_id), ("from a line", ann.uid));
    live.sends(a_text(heard.conversation_id, "from a frame")).await;
    assert_eq!(ann.hears().await.text, "from a frame");
}

#[tokio::test]
async fn a_line_of_64_kib_is_taken_and_a_longer_one_refused() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    let head = format!("SEND {} ", ben.uid);
    let longest = "x".repeat(64 * 1024 - head.len());
    value_of(&ann.asks(&format!("{head}{longest}")).await, "+OK msg_id=");
    assert_eq!(ben.hears().await.text.len(), longest.len());
    let reason = ann.is_refused(&format!("{head}{longest}x")).await;
    assert!(reason.contains("long") || reason.contains("65536"), "{reason}");
}

/// Answers come in whole lines, one for each command, though messages pour in meanwhile.
#[tokio::test]
async fn pushes_come_between_answers_and_never_inside_one() {
    let world = World::shared();
    let (mut ann, mut ben) = (world.registers("ann").await, world.registers("ben").await);
    const EACH: usize = 100;
    let (ann_uid, ben_uid) = (ann.uid, ben.uid);
    let talks = |mut client: LineClient, to: u64| async move {
        for at in 0..EACH {
            client.writes(format!("SEND {to} {at}\n").as_bytes()).await;
            if at % 10 == 0 {
                client.writes(b"GETFRIENDS\n").await;
            }
        }
        for at in 0..EACH {
            value_of(&client.reads_answer().await, "+OK msg_id=");
            if at % 10 == 0 {
                assert_eq!(client.reads_answer().await.trim_end(), "+OK friends:");
            }
        }
        for at in 0..EACH {
            assert_eq!(client.hears().await.text, at.to_string());
        }
    };
    // Both must be there before the first line, or it would wait for a PULL.
    assert!(ann.pulls().await.is_empty() && ben.pulls().await.is_empty());
    tokio::join!(talks(ann, ben_uid), talks(ben, ann_uid));
}

#[tokio::test]
async fn a_line_without_end_costs_no_memory_and_is_refused_clearly() {
    const LINE_MIB: usize = 100;
    let world = World::with(&[]);
    let ann = world.registers("ann").await;
    let before = world.node.resident_kib();
    let (mut read, mut write) = world.dials("line").await.into_split();
    let writes = async {
        write.write_all(b"SEND 1 ").await.expect("the connection is open");
        let mib = vec![b'x'; 1024 * 1024];
        let mut most = 0;
        for _ in 0..LINE_MIB {
            // The server may close before it has all.
            if write.write_all(&mib).await.is_err() {
                break;
            }
            most = most.max(world.node.resident_kib());
        }
        most
    };
    let reads = async {
        let (mut all, mut chunk) = (Vec::new(), vec![0; 4096]);
        while let Ok(read) = read.read(&mut chunk).await {
            all.extend_from_slice(&chunk[..read]);
            if read == 0 {
                break;
            }
        }
        String::from_utf8(all).expect("text")
    };
    let (most, said) = within("the end", async { tokio::join!(writes, reads) }).await;
    let last = said.lines().last().expect("a greeting at least");
    assert!(last.starts_with("-ERR ") && last.contains("long"), "{said}");
    let grown = most.max(world.node.resident_kib()).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more than before");
    // Others are served meanwhile and after.
    let mut ben = world.registers("ben").await;
    ben.sends(ann.uid, "still here").await;
}
