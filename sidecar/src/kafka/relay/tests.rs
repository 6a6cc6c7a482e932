//! Sessions with a broker that is made up: what it says is in the test's hands.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::session::{Broker, Way};
use super::*;
use crate::config::{ScramHash, Secret};
use crate::kafka::trouble::Kind;

const HMAC: &str = "hunter2";

fn token() -> DelegationToken {
    DelegationToken {
        hash: ScramHash::Sha256,
        id: Secret::new("alice"),
        hmac: Secret::new(HMAC),
    }
}

fn shared(tls: Option<Tls>, patience: Duration) -> Arc<Shared> {
    let way = Way {
        tls,
        token: token(),
        client_id: "me".to_owned(),
        patience,
        keepalive: true,
        nodelay: true,
    };
    Arc::new(Shared {
        way,
        state: Mutex::default(),
        wake: None,
    })
}

/// A made-up broker's end of a connection.
struct Peer(TcpStream);

impl Peer {
    /// The next request: its kind, its correlation id, and what follows the client's id.
    async fn request(&mut self) -> (i16, i32, Vec<u8>) {
        let length = self.0.read_u32().await.unwrap();
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes).await.unwrap();
        let key = i16::from_be_bytes([bytes[0], bytes[1]]);
        let correlation = i32::from_be_bytes(bytes[4..8].try_into().unwrap());
        let name = usize::from(u16::from_be_bytes([bytes[8], bytes[9]]));
        (key, correlation, bytes[10 + name..].to_vec())
    }

    async fn answer(&mut self, correlation: i32, body: &[u8]) {
        let length = (body.len() as u32 + 4).to_be_bytes();
        let frame = [&length, &correlation.to_be_bytes(), body].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    async fn versions(&mut self) {
        let (key, correlation, _) = self.request().await;
        assert_eq!(key, 18);
        self.answer(correlation, &[0, 0, 0, 0, 0, 1, 0, 36, 0, 0, 0, 2])
            .await;
    }

    /// Logs the client in for `lifetime_ms`.
    async fn log_in(&mut self, lifetime_ms: u64) {
        let (key, correlation, body) = self.request().await;
        assert_eq!((key, &body[2..]), (17, &b"SCRAM-SHA-256"[..]));
        self.answer(correlation, &[0; 6]).await;
        let message = |text: &str, lifetime: u64| {
            let length = (text.len() as u32).to_be_bytes();
            [
                &[0, 0, 0xff, 0xff],
                &length[..],
                text.as_bytes(),
                &lifetime.to_be_bytes(),
            ]
            .concat()
        };
        let (_, correlation, body) = self.request().await;
        let first = String::from_utf8(body[4..].to_vec()).unwrap();
        assert!(
            first.starts_with("n,,n=alice,r=") && first.ends_with(",tokenauth=true"),
            "{first}"
        );
        let bare = &first[3..];
        let nonce = bare.split(',').nth(1).unwrap();
        let ours = format!("{nonce}theirs,s=c2FsdA==,i=4096");
        self.answer(correlation, &message(&ours, 0)).await;
        let (_, correlation, body) = self.request().await;
        let last = String::from_utf8(body[4..].to_vec()).unwrap();
        let without_proof = last.split_once(",p=").unwrap().0;
        let signature =
            scram::server_signature(HMAC, b"salt", 4096, &format!("{bare},{ours},{without_proof}"));
        let text = format!("v={}", openssl::base64::encode_block(&signature));
        self.answer(correlation, &message(&text, lifetime_ms)).await;
    }
}

/// A broker's address, and the connections that are made to it.
async fn listener() -> (TcpListener, Broker) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let name = format!("localhost:{}", address.port());
    (listener, Broker { name, address })
}

/// Starts a connection; gives librdkafka's end of it.
fn start(shared: &Arc<Shared>, broker: &Broker) -> tokio::net::UnixStream {
    let (theirs, ours) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_nonblocking(true).unwrap();
    let (shared, broker) = (Arc::clone(shared), broker.clone());
    tokio::spawn(async move { shared.connection(broker, ours).await });
    tokio::net::UnixStream::from_std(theirs).unwrap()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn sessions_are_renewed_between_two_requests() {
    let (listener, broker) = listener().await;
    let shared = shared(None, LONG);
    let mut library = start(&shared, &broker);
    // Half of a request is sent before the session is over, and the other half, with a whole one, after that.
    let one = |correlation: u8| vec![0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, correlation, 0, 0];
    library.write_all(&one(1)[..7]).await.unwrap();
    let mut peer = Peer(listener.accept().await.unwrap().0);
    peer.versions().await;
    peer.log_in(1500).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    library.write_all(&one(1)[7..]).await.unwrap();
    library.write_all(&one(2)).await.unwrap();
    assert_eq!(peer.request().await.1, 1);
    peer.log_in(1000).await;
    assert_eq!(peer.request().await.1, 2);
    peer.answer(1, b"one").await;
    // Nobody says anything, and the session is renewed all the same; what comes in the meantime comes through.
    peer.log_in(0).await;
    peer.answer(2, b"two").await;
    let mut answers = [0; 22];
    library.read_exact(&mut answers).await.unwrap();
    assert_eq!(&answers, b"\0\0\0\x07\0\0\0\x01one\0\0\0\x07\0\0\0\x02two");
    // Either side's end is the other's.
    drop(peer);
    assert_eq!(library.read(&mut answers).await.unwrap(), 0);
    assert!(shared.lock().wrong.is_empty());
}

#[tokio::test]
async fn bytes_pass_both_ways_and_no_more_are_held_than_fit() {
    let (listener, broker) = listener().await;
    let mut library = start(&shared(None, LONG), &broker);
    let mut peer = Peer(listener.accept().await.unwrap().0);
    peer.versions().await;
    peer.log_in(0).await;
    library.write_all(&i32::MAX.to_be_bytes()).await.unwrap();
    // Nobody reads: what is taken is what sockets and the relay hold.
    let (chunk, mut taken) = ([7; 10_000], 0);
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), library.write(&chunk)).await {
        taken += written.unwrap();
        assert!(taken < 64 << 20, "the relay takes more than anybody reads");
    }
    let mut all = vec![0; taken + 4];
    peer.0.read_exact(&mut all).await.unwrap();
    assert!(all.split_off(4).iter().all(|byte| *byte == 7));
    peer.answer(1, &chunk).await;
    let mut back = vec![0; chunk.len() + 8];
    library.read_exact(&mut back).await.unwrap();
    assert_eq!(back.split_off(8), chunk);
    drop(library);
    assert_eq!(peer.0.read(&mut [0]).await.unwrap(), 0);
}

/// What is told of a broker that does what the function does with a connection.
async fn told<F: Future<Output = ()>>(shared: &Arc<Shared>, serve: impl FnOnce(Peer) -> F) -> (Kind, String) {
    let (listener, broker) = listener().await;
    let mut library = start(shared, &broker);
    serve(Peer(listener.accept().await.unwrap().0)).await;
    assert_eq!(
        library.read(&mut [0]).await.unwrap(),
        0,
        "it looks like a broker that hangs up"
    );
    let trouble = shared.lock().untold.pop_front().unwrap();
    assert_eq!(trouble.broker, broker.name);
    let text = trouble.to_string();
    assert!(!text.contains(HMAC), "{text}");
    (trouble.kind, text)
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let shared = shared(None, LONG);
    let refused = async |code: u8, at: usize| {
        told(&shared, async |mut peer| {
            peer.versions().await;
            let (_, correlation, _) = peer.request().await;
            if at == 0 {
                peer.answer(correlation, &[0, code, 0, 0, 0, 0]).await;
                return;
            }
            peer.answer(correlation, &[0; 6]).await;
            let (_, correlation, _) = peer.request().await;
            peer.answer(correlation, &[0, code, 0, 2, b'n', b'o', 0, 0, 0, 0])
                .await;
        })
        .await
    };
    assert_eq!(refused(33, 0).await.0, Kind::Mechanism);
    let (kind, text) = refused(34, 0).await;
    assert!(
        kind == Kind::Mechanism && text.contains("asks for no SASL"),
        "{text}"
    );
    let (kind, text) = refused(58, 1).await;
    assert!(kind == Kind::Credentials && text.ends_with(": no)"), "{text}");
    let (kind, _) = told(&shared, async |peer| drop(peer)).await;
    assert_eq!(kind, Kind::Disconnected);
    let (kind, text) = told(&shared, async |mut peer| {
        let (_, correlation, _) = peer.request().await;
        peer.answer(correlation, &[0; 6]).await;
    })
    .await;
    assert!(kind == Kind::Mechanism && text.contains("Kafka 1.1"), "{text}");
    // A broker that does not know the token, and lets anybody in.
    let (kind, text) = told(&shared, async |mut peer| {
        peer.versions().await;
        let (_, correlation, _) = peer.request().await;
        peer.answer(correlation, &[0; 6]).await;
        let (_, correlation, body) = peer.request().await;
        let first = String::from_utf8(body[7..].to_vec()).unwrap();
        let text = format!("{}x,s=c2FsdA==,i=4096", first.split(',').nth(1).unwrap());
        let message = |text: &str| {
            let length = (text.len() as u32).to_be_bytes();
            [&[0, 0, 0xff, 0xff], &length[..], text.as_bytes(), &[0; 8]].concat()
        };
        peer.answer(correlation, &message(&text)).await;
        let (_, correlation, _) = peer.request().await;
        peer.answer(correlation, &message("v=AAAA")).await;
    })
    .await;
    assert!(
        kind == Kind::Credentials && text.contains("does not know the token"),
        "{text}"
    );
}

#[tokio::test]
async fn nobody_there_and_nobody_who_speaks() {
    let (listener, broker) = listener().await;
    let shared = shared(None, Duration::from_millis(300));
    let mut library = start(&shared, &broker);
    let silent = listener.accept().await.unwrap();
    assert_eq!(library.read(&mut [0]).await.unwrap(), 0);
    let trouble = shared.lock().untold.pop_front().unwrap();
    assert_eq!(trouble.kind, Kind::Timeout);
    assert!(trouble.detail.contains("300 ms"), "{trouble}");
    drop((silent, listener));
    for _ in 0..3 {
        let mut library = start(&shared, &broker);
        assert_eq!(library.read(&mut [0]).await.unwrap(), 0);
    }
    let mut state = shared.lock();
    let trouble = state.untold.pop_front().unwrap();
    assert_eq!(trouble.kind, Kind::Refused);
    assert_eq!(state.untold.len(), 0, "the same is told once in a while");
    assert!(state.wrong.contains_key(&broker.name));
}

#[test]
fn librdkafka_is_left_what_is_its_own() {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", "a:1"),
        ("security.protocol", "SASL_SSL"),
        ("ssl.ca.pem", "x"),
        ("enable.ssl.certificate.verification", "false"),
        ("socket.connection.setup.timeout.ms", "7000"),
        ("client.id", "me"),
    ] {
        config.set(name, value);
    }
    let rest = client_config(&config);
    let expected = [
        ("api.version.request.timeout.ms", "12000"),
        ("client.id", "me"),
        ("security.protocol", "plaintext"),
        ("socket.connection.setup.timeout.ms", "7000"),
    ];
    assert_eq!(rest.config_map().into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(patience(&config), Duration::from_secs(7));
}

#[test]
fn addresses_are_read() {
    let four: SocketAddr = "127.0.0.1:9092".parse().unwrap();
    let six: SocketAddr = "[fe80::1%3]:9093".parse().unwrap();
    let mut raw = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 9092_u16.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be(),
        },
        sin_zero: [0; 8],
    };
    let read = |raw: *const u8, length| {
        #[allow(unsafe_code, reason = "the pointer is that of a live variable")]
        unsafe {
            read_address(raw, length)
        }
    };
    let at = (&raw const raw).cast::<u8>();
    assert_eq!(read(at, size_of::<libc::sockaddr_in>()), Some(four));
    assert_eq!(read(at, 4), None);
    raw.sin_family = libc::AF_UNIX as u16;
    assert_eq!(
        read((&raw const raw).cast(), size_of::<libc::sockaddr_in>()),
        None
    );
    let raw = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as u16,
        sin6_port: 9093_u16.to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr {
            s6_addr: "fe80::1".parse::<Ipv6Addr>().unwrap().octets(),
        },
        sin6_scope_id: 3,
    };
    assert_eq!(
        read((&raw const raw).cast(), size_of::<libc::sockaddr_in6>()),
        Some(six)
    );
}

#[test]
fn properties_of_tls_are_heeded_or_refused() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/keystores");
    let path = |name: &str| dir.join(name).display().to_string();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let tls = |pairs: &[(&str, String)]| {
        let mut config = ClientConfig::new();
        for (name, value) in pairs {
            config.set(*name, value);
        }
        Tls::new(&config).map(drop)
    };
    let chain = ("ssl.certificate.pem", read("chain.pem"));
    let encrypted = ("ssl.key.pem", read("key-encrypted.pem"));
    let password = |text: &str| ("ssl.key.password", text.to_owned());
    let good: [&[_]; 4] = [
        &[],
        &[
            ("ssl.ca.pem", read("root.pem")),
            chain.clone(),
            encrypted.clone(),
            password("key-secret"),
        ],
        &[
            ("ssl.ca.location", path("root.pem")),
            ("ssl.certificate.location", path("chain.pem")),
            ("ssl.key.location", path("key.pem")),
        ],
        &[
            ("ssl.cipher.suites", "ECDHE+AESGCM".to_owned()),
            ("ssl.ca.location", path("")),
        ],
    ];
    for pairs in good {
        tls(pairs).unwrap();
    }
    let bad: [(&[_], &str); 8] = [
        (
            &[chain.clone(), encrypted, password("wrong-secret")],
            "ssl.key.pem: ",
        ),
        (&[chain, ("ssl.key.pem", read("old-key.pem"))], "ssl.key.pem: "),
        (
            &[(
                "ssl.ca.pem",
                "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_owned(),
            )],
            "ssl.ca.pem: ",
        ),
        (
            &[("ssl.ca.location", "/nowhere/ca.pem".to_owned())],
            "ssl.ca.location: ",
        ),
        (
            &[("ssl.key.location", "/nowhere/key.pem".to_owned())],
            "cannot read /nowhere/key.pem",
        ),
        (
            &[("ssl.cipher.suites", "nonsense".to_owned())],
            "ssl.cipher.suites: ",
        ),
        (&[("ssl.curves.list", "nonsense".to_owned())], "ssl.curves.list: "),
        (
            &[("ssl.sigalgs.list", "nonsense".to_owned())],
            "ssl.sigalgs.list: ",
        ),
    ];
    for (pairs, expected) in bad {
        let why = tls(pairs).unwrap_err();
        assert!(why.contains(expected), "{expected}: {why}");
        assert!(!why.contains("secret"), "{why}");
    }
}
