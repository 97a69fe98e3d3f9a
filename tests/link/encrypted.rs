//! Links over TLS: who is let in by certificate, and what both sides say of who is not.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rookery::cluster::Cluster;
use rookery::config::Config;

use crate::cluster::{Nodes, within};

/// How long a refusal may take to be logged: a few dials.
const SAID_MAX: Duration = Duration::from_secs(10);

/// A certificate authority, and the folder in which it leaves what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// Whether a certificate is in its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    Now,
    Past,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the system has randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are sound");
        let folder = tempfile::tempdir().expect("the system has room for a folder");
        let authority = Self { issuer, folder };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// Signs a certificate that bears that name, and configures it.
    fn equip(&self, config: &mut Config, name: &str, time: Time) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("the name is one");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if time == Time::Past {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().expect("the system has randomness");
        let signed = params.signed_by(&key, &self.issuer).expect("the parameters are sound");
        let node = &config.node.name;
        let path = |path: PathBuf| path.display().to_string();
        config.cluster.tls_ca = path(self.folder.path().join("ca.pem"));
        config.cluster.tls_certificate = path(self.write(&format!("{node}.pem"), &signed.pem()));
        config.cluster.tls_key = path(self.write(&format!("{node}.key"), &key.serialize_pem()));
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the folder takes files");
        path
    }
}

/// Makes a sound configuration wrong.
type Spoil<'a> = &'a dyn Fn(&mut Config);

/// The name that any node may bear.
const CLUSTER: &str = "rookery-cluster";

/// Starts `a`, then `b` with `a` as its seed; they must not link, and each must say why in these words.
fn refused(set_a: impl FnOnce(&mut Config), set_b: impl FnOnce(&mut Config), said: [&[&str]; 2]) {
    let mut nodes = Nodes::new();
    nodes.start("a", set_a);
    let seed = nodes.get("a").address().to_owned();
    nodes.start("b", |config| {
        config.cluster.seeds = vec![seed.clone()];
        set_b(config);
    });
    for (name, words) in ["a", "b"].into_iter().zip(said) {
        within(SAID_MAX, &format!("'{name}' says {words:?}"), || {
            nodes.get(name).log_has(&[&["WARN", "refused"][..], words].concat())
        });
        assert!(nodes.get(name).counter("links_refused") > 0, "{name}");
        assert_eq!(nodes.get(name).counter("links_ready"), 0, "{name}");
    }
    nodes.await_view(&["b"], "b:up", SAID_MAX);
    nodes.await_view(&["a"], "a:up", SAID_MAX);
}

#[test]
fn nodes_with_certificates_of_one_authority_link() {
    let authority = Authority::new();
    let mut nodes = Nodes::new();
    // By the host that they are dialled at, or by the name of all.
    nodes.start("a", |config| authority.equip(config, "127.0.0.1", Time::Now));
    let seed = nodes.get("a").address().to_owned();
    for (name, bears) in [("b", CLUSTER), ("c", "127.0.0.1")] {
        nodes.spawn(name, |config| {
            config.cluster.seeds = vec![seed.clone()];
            authority.equip(config, bears, Time::Now);
        });
    }
    nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(10));
    for name in ["a", "b"] {
        let report = nodes.get(name).flood(16, 2000);
        assert_eq!((report.ok, report.failed), (2000, 0), "{report:?}");
    }
    assert_eq!(nodes.get("a").ask_line("big 3000000"), "ok 3000000");
    // The failure detector sees through it.
    nodes.signal("c", "STOP");
    nodes.await_view(&["a", "b"], "a:up b:up c:down", Duration::from_secs(6));
    nodes.signal("c", "CONT");
    nodes.await_view(&["a", "b", "c"], "a:up b:up c:up", Duration::from_secs(15));
    nodes.check_order();
}

#[test]
fn a_plain_node_and_an_encrypted_one_refuse_each_other_and_both_say_how_to_mend_it() {
    let authority = Authority::new();
    let both: &[&str] = &["cluster.tls_ca, cluster.tls_certificate", "on all nodes, or on none"];
    refused(|_| {}, |config| authority.equip(config, CLUSTER, Time::Now), [both, both]);
    refused(|config| authority.equip(config, CLUSTER, Time::Now), |_| {}, [both, both]);
}

#[test]
fn a_certificate_of_another_authority_is_refused_and_both_say_so() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    refused(
        |config| ours.equip(config, CLUSTER, Time::Now),
        |config| theirs.equip(config, CLUSTER, Time::Now),
        [
            &["does not take this node's certificate", "cluster.tls_ca", "one authority"],
            &["not signed by this node's cluster.tls_ca", "one authority"],
        ],
    );
    // The dialer trusts, but is not trusted.
    refused(
        |config| {
            ours.equip(config, CLUSTER, Time::Now);
            config.cluster.tls_ca = Path::new(theirs.folder.path()).join("ca.pem").display().to_string();
        },
        |config| ours.equip(config, CLUSTER, Time::Now),
        [&["not signed by this node's cluster.tls_ca"], &["does not take this node's certificate"]],
    );
}

#[test]
fn an_expired_certificate_is_refused_and_both_say_so() {
    let authority = Authority::new();
    let (expired, mine): (&[&str], &[&str]) = (
        &["the other node's certificate has expired", "renew"],
        &["this node's certificate", "it has expired", "renew"],
    );
    refused(
        |config| authority.equip(config, CLUSTER, Time::Past),
        |config| authority.equip(config, CLUSTER, Time::Now),
        [mine, expired],
    );
    refused(
        |config| authority.equip(config, CLUSTER, Time::Now),
        |config| authority.equip(config, CLUSTER, Time::Past),
        [expired, mine],
    );
}

#[test]
fn a_certificate_for_another_host_is_refused_and_both_say_so() {
    let authority = Authority::new();
    refused(
        |config| authority.equip(config, "elsewhere.example", Time::Now),
        |config| authority.equip(config, CLUSTER, Time::Now),
        [
            &["does not take this node's certificate", "bear the host dialled"],
            &["neither the host dialled nor 'rookery-cluster'"],
        ],
    );
}

#[test]
fn whoever_says_nothing_in_a_tls_handshake_is_dropped_at_the_deadline() {
    let authority = Authority::new();
    let mut nodes = Nodes::new();
    let mute = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let seed = mute.local_addr().expect("it is bound").to_string();
    nodes.start("a", |config| {
        config.cluster.seeds = vec![seed.clone()];
        authority.equip(config, CLUSTER, Time::Now);
    });
    // As the one that dials, and as the one that is dialled.
    let _dialled = mute.accept().expect("the node dials its seed");
    let mut silent = TcpStream::connect(nodes.get("a").address()).expect("the node listens");
    within(SAID_MAX, "the dialer gives up", || {
        nodes.get("a").log_has(&["WARN", &seed, "does not answer", "cluster.handshake_timeout"])
    });
    within(SAID_MAX, "the acceptor gives up", || {
        nodes.get("a").log_has(&["WARN", "said too little", "cluster.handshake_timeout"])
    });
    silent.set_read_timeout(Some(SAID_MAX)).expect("it is not zero");
    assert_eq!(silent.read(&mut [0; 8]).ok(), Some(0), "it is closed, and nothing was said");
}

#[tokio::test]
async fn files_that_can_not_be_used_are_named_with_their_keys() {
    let authority = Authority::new();
    let mut sound = Config::default();
    sound.node.name = "a".to_owned();
    sound.cluster.listen = "127.0.0.1:0".to_owned();
    authority.equip(&mut sound, CLUSTER, Time::Now);
    Cluster::bind(&sound).await.map(|_| ()).expect("the files are sound");
    let mut other = sound.clone();
    other.node.name = "b".to_owned();
    authority.equip(&mut other, CLUSTER, Time::Now);
    let empty = authority.write("empty.pem", "nothing").display().to_string();
    let cases: [(Spoil<'_>, &[&str]); 5] = [
        (&|config| config.cluster.tls_key.clear(), &["cluster.tls_key is empty", "or none"]),
        (
            &|config| config.cluster.tls_ca = "/nowhere/ca.pem".to_owned(),
            &["cluster.tls_ca", "/nowhere/ca.pem"],
        ),
        (
            &|config| config.cluster.tls_certificate = empty.clone(),
            &["cluster.tls_certificate", "no certificate"],
        ),
        (&|config| config.cluster.tls_key = empty.clone(), &["cluster.tls_key", "empty.pem"]),
        (
            &|config| config.cluster.tls_key = other.cluster.tls_key.clone(),
            &["cluster.tls_key", "must be the key of"],
        ),
    ];
    for (spoil, words) in cases {
        let mut config = sound.clone();
        spoil(&mut config);
        let Err(error) = Cluster::bind(&config).await else { panic!("{words:?} was not noticed") };
        for word in words {
            assert!(error.0.contains(word), "'{}' does not say '{word}'", error.0);
        }
    }
}
