//! A TCP proxy before a MariaDB that reads along and cuts a connection at the worst moment: after the statement that
//! commits was sent, before its answer came.
//!
//! Test binaries take this file in by `#[path]`.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Commands of the protocol.
const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
/// Bytes of a packet's header: three of length, one of sequence.
const HEADER: usize = 4;

/// Which packet is cut at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The COMMIT of a transaction.
    Commit,
    /// An INSERT of messages, which commits by itself where it is alone.
    Insert,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server has done it; the answer is lost.
    Done,
    /// The server never sees it.
    Lost,
    /// The server has it, and may still be at it when the client learns of the cut.
    Running,
    /// Neither side learns of it: the client stands still amid its transaction, its connection open.
    Held,
}

/// The proxy; its connections end with the runtime of the test.
pub struct MySqlProxy {
    port: u16,
    plan: Arc<Mutex<Plan>>,
    /// Whether anything is relayed; connections watch it.
    open: Arc<watch::Sender<bool>>,
    /// How often connections were forgotten.
    forgotten: Arc<watch::Sender<u32>>,
}

#[derive(Default)]
struct Plan {
    next: Option<(Point, Fate)>,
    cuts: u32,
    /// After the next cut nothing is relayed any more.
    ends_with_it: bool,
}

impl Plan {
    /// Whether this packet is the one to cut at; it is so once.
    fn take(&mut self, point: Point) -> Option<Fate> {
        let (_, fate) = self.next.take_if(|(planned, _)| *planned == point)?;
        self.cuts += 1;
        Some(fate)
    }
}

impl MySqlProxy {
    /// Starts one before a server on this port of 127.0.0.1.
    pub async fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let plan: Arc<Mutex<Plan>> = Arc::default();
        let open = Arc::new(watch::Sender::new(true));
        let forgotten = Arc::new(watch::Sender::new(0));
        let (plans, gate, memory) = (Arc::clone(&plan), Arc::clone(&open), Arc::clone(&forgotten));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut is_open = gate.subscribe();
                if *is_open.borrow_and_update()
                    && let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)).await
                {
                    let (plans, gate) = (Arc::clone(&plans), Arc::clone(&gate));
                    let mut memory = memory.subscribe();
                    tokio::spawn(async move {
                        // However it ends, both sides see the end of the connection.
                        let mut relay = std::pin::pin!(relay(client, server, plans, gate));
                        tokio::select! {
                            _ = &mut relay => {}
                            _ = is_open.changed() => {}
                            // The relay, and its sockets, stay without being moved on.
                            _ = memory.changed() => std::future::pending().await,
                        }
                    });
                }
            }
        });
        Self { port, plan, open, forgotten }
    }

    /// A database's URL by way of the proxy.
    pub fn url(&self, direct: &str, server_port: u16) -> String {
        direct.replace(&format!(":{server_port}/"), &format!(":{}/", self.port))
    }

    /// Cuts at the next such packet of any connection.
    pub fn cut_next(&self, point: Point, fate: Fate) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).next = Some((point, fate));
    }

    /// With the next cut all connections end, and new ones too, as when the server dies.
    pub fn ends_with_the_cut(&self) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).ends_with_it = true;
    }

    /// From here on the connections that are there carry nothing any more, without an end; new ones do. So it is when
    /// something between the two has forgotten them.
    pub fn forgets_connections(&self) {
        self.forgotten.send_modify(|times| *times += 1);
    }

    /// Relays again.
    pub fn goes_on(&self) {
        self.open.send_replace(true);
    }

    /// How often it has cut.
    pub fn cuts(&self) -> u32 {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).cuts
    }
}

/// What one connection has prepared.
#[derive(Default)]
struct Prepared {
    /// The statement whose number the server is about to tell inserts messages.
    pending: bool,
    inserts: HashSet<[u8; 4]>,
}

impl Prepared {
    /// Reads a packet of the client (behind its header).
    fn point(&mut self, packet: &[u8]) -> Option<Point> {
        let (command, rest) = packet.split_first()?;
        match *command {
            COM_QUERY => (rest == b"COMMIT").then_some(Point::Commit),
            COM_STMT_PREPARE => {
                self.pending = rest.starts_with(b"INSERT INTO `messages`");
                None
            }
            COM_STMT_EXECUTE => {
                let number: [u8; 4] = rest.get(..4)?.try_into().ok()?;
                self.inserts.contains(&number).then_some(Point::Insert)
            }
            _ => None,
        }
    }

    /// Reads what the server says: its answer to a prepare names the statement's number.
    fn answer(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.pending)
            && let Some(number) = bytes.get(HEADER + 1..HEADER + 5)
        {
            self.inserts.insert(number.try_into().expect("four bytes"));
        }
    }
}

async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    plan: Arc<Mutex<Plan>>,
    gate: Arc<watch::Sender<bool>>,
) -> std::io::Result<()> {
    let mut prepared = Prepared::default();
    let (mut from_client, mut from_server) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read_buf(&mut from_client) => {
                if read? == 0 {
                    return Ok(());
                }
                while let Some(length) = whole_packet(&from_client) {
                    let packet: Vec<u8> = from_client.drain(..length).collect();
                    let point = prepared.point(&packet[HEADER..]);
                    let fate = point.and_then(|point| plan.lock().unwrap_or_else(PoisonError::into_inner).take(point));
                    if fate == Some(Fate::Held) {
                        // Until the server has had enough of it.
                        while server.read(&mut from_server).await? > 0 {}
                        return Ok(());
                    }
                    if fate != Some(Fate::Lost) {
                        server.write_all(&packet).await?;
                    }
                    if fate == Some(Fate::Done) {
                        // It has answered once the first bytes are there.
                        server.readable().await?;
                    }
                    if fate.is_some() {
                        let ends = std::mem::take(&mut plan.lock().unwrap_or_else(PoisonError::into_inner).ends_with_it);
                        if ends {
                            gate.send_replace(false);
                        }
                        return Ok(());
                    }
                }
            }
            read = server.read(&mut from_server) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                prepared.answer(&from_server[..read]);
                client.write_all(&from_server[..read]).await?;
            }
        }
    }
}

/// The length of the first packet with its header, if all of it is there.
fn whole_packet(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let length =
        HEADER + usize::from(header[0]) + (usize::from(header[1]) << 8) + (usize::from(header[2]) << 16);
    (bytes.len() >= length).then_some(length)
}
