//! What passes a relay, and what does not.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long to look before believing that nothing comes.
const LOOK: Duration = Duration::from_millis(150);

/// A relay from node 0 to node 1, and both ends of a connection through it.
struct Stage {
    weather: watch::Sender<Weather>,
    dialler: TcpStream,
    dialled: TcpStream,
    _relay: Relay,
}

impl Stage {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let target = listener.local_addr().expect("it is bound").to_string();
        let weather = watch::Sender::new(Weather::default());
        let path = Path { from: Arc::new(|_, _| Some(Place::Node(0))), to: Place::Node(1) };
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let relay =
            Relay::start(any, target, Some(path), Some(weather.subscribe())).await.expect("a port is free");
        let dialler = TcpStream::connect(relay.address()).await.expect("the relay listens");
        let (dialled, _) =
            timeout(PATIENCE, listener.accept()).await.expect("it dials on").expect("it is open");
        Self { weather, dialler, dialled, _relay: relay }
    }

    fn cut(&self, from: usize, to: usize) {
        self.weather.send_modify(|weather| {
            weather.cuts.insert((Place::Node(from), Place::Node(to)));
        });
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"x").await.expect("it is connected");
    arrives(to).await;
}

async fn arrives(to: &mut TcpStream) {
    let mut byte = [0];
    timeout(PATIENCE, to.read_exact(&mut byte)).await.expect("it arrives").expect("it is connected");
}

async fn is_held(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"x").await.expect("it is connected");
    assert!(timeout(LOOK, to.read_u8()).await.is_err(), "it must not arrive");
}

#[tokio::test]
async fn a_cut_holds_one_direction_until_it_heals() {
    let mut stage = Stage::new().await;
    passes(&mut stage.dialler, &mut stage.dialled).await;
    stage.cut(0, 1);
    is_held(&mut stage.dialler, &mut stage.dialled).await;
    passes(&mut stage.dialled, &mut stage.dialler).await;
    stage.cut(1, 0);
    is_held(&mut stage.dialled, &mut stage.dialler).await;
    stage.weather.send_replace(Weather::default());
    arrives(&mut stage.dialled).await;
    arrives(&mut stage.dialler).await;
}

#[tokio::test]
async fn the_end_of_a_cut_connection_is_not_told() {
    let mut stage = Stage::new().await;
    stage.cut(0, 1);
    drop(stage.dialler);
    assert!(timeout(LOOK, stage.dialled.read_u8()).await.is_err(), "a lost packet tells of no end");
    stage.weather.send_replace(Weather::default());
    let end = timeout(PATIENCE, stage.dialled.read_u8()).await.expect("it is told now");
    assert!(end.is_err(), "the end of the stream");
}

#[tokio::test]
async fn loss_delays_and_loses_nothing_of_a_stream() {
    let mut stage = Stage::new().await;
    stage.weather.send_modify(|weather| weather.loss = 100);
    let began = tokio::time::Instant::now();
    passes(&mut stage.dialler, &mut stage.dialled).await;
    assert!(began.elapsed() >= Duration::from_millis(600), "both tries were lost: {:?}", began.elapsed());
}

#[test]
fn a_node_is_known_by_its_command_line() {
    assert_eq!(place_named(b"/bin/rookery\0serve\0--name\0n3\0--seed\0x"), Some(Place::Node(2)));
    assert_eq!(place_named(b"sh\0-c\0sleep 1"), None);
    assert_eq!(place_named(b"rookery\0serve\0--name"), None);
}

#[test]
fn the_process_behind_a_connection_is_looked_for_among_our_children_only() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let dialled = listener.local_addr().expect("it is bound");
    let stream = std::net::TcpStream::connect(dialled).expect("it listens");
    let own = stream.local_addr().expect("it is connected");
    assert_eq!(node_behind(own, dialled), None, "it is ourselves, and no child");
}
