//! What is written in a profile is what its running producer does.

use std::time::{Duration, Instant};

use super::*;

/// The producer of a profile of `testdata/config/sidecar/good/full.yaml` on the cluster.
fn written(profile: &str, servers: String) -> Producer {
    let yaml = include_str!("../../../../../testdata/config/sidecar/good/full.yaml");
    let secrets = ["DATA_TOKEN", "OTHER_TOKEN", "KAFKA_PASSWORD"];
    let env = secrets.map(|name| (name.to_owned(), "secret".to_owned()));
    let mut config = crate::config::load(yaml, env.into_iter()).unwrap().config;
    let cluster = config.clusters.get_mut("main").unwrap();
    cluster.bootstrap_servers = vec![servers];
    let metrics = Arc::new(Metrics::default()).producer("main", profile);
    Producer::start(profile.to_owned(), cluster, &config.producers[profile], metrics).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_setting_is_one_of_the_running_producer() {
    let bulk = written("bulk", "127.0.0.1:1".to_owned());
    let quick = written("quick", "127.0.0.1:1".to_owned());
    // Of the cluster; of the profile's own fields, in the order of the documentation; of its `properties`.
    let expected = [
        ("client.id", "sluice", "sluice"),
        ("socket.keepalive.enable", "true", "true"),
        ("acks", "-1", "1"),
        ("request.timeout.ms", "2000", "30000"),
        ("batch.num.messages", "200", "10000"),
        ("batch.size", "1048576", "1000000"),
        ("retries", "10", "2147483647"),
        ("retry.backoff.ms", "150", "100"),
        ("retry.backoff.max.ms", "150", "1000"),
        ("socket.timeout.ms", "9000", "60000"),
        ("connections.max.idle.ms", "60000", "0"),
        ("compression.type", "lz4", "none"),
        ("allow.auto.create.topics", "true", "false"),
        ("message.timeout.ms", "20000", "300000"),
        ("max.in.flight.requests.per.connection", "3", "1000000"),
        ("enable.idempotence", "true", "false"),
        // Sluice's own, which librdkafka does not have by default.
        ("partitioner", "murmur2_random", "murmur2_random"),
        ("reconnect.backoff.max.ms", "1000", "1000"),
        // Kept by the sidecar itself: no bound and no waiting of the library's comes on top.
        ("linger.ms", "0", "0"),
        ("queue.buffering.max.messages", "0", "0"),
        ("queue.buffering.max.kbytes", "2147483647", "2147483647"),
    ];
    for (name, of_bulk, of_quick) in expected {
        let found = [&bulk, &quick].map(|producer| {
            let native = Arc::clone(producer.shared.lock().native());
            native.property(name).unwrap()
        });
        assert_eq!(found, [of_bulk, of_quick], "{name}");
    }
}

/// `producer_async_flush_timeout: 1s`: records that come while others are under way are gathered for as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_is_gathered_for_as_long_as_the_profile_says() {
    let mock = mock();
    let bulk = written("bulk", mock.bootstrap_servers());
    let told = Arc::new(Told::default());
    send(&bulk, &told, 0..1);
    told.wait(1);
    // Records wait for others when more were under way lately than are now, and a call before has left some
    // under way: not always so on a busy machine.
    let gathered = (0..20).any(|round| {
        let first = 1 + round * 45;
        send(&bulk, &told, first..first + 30);
        told.wait(usize::try_from(first).unwrap() + 30);
        std::thread::sleep(Duration::from_millis(25));
        let begun = Instant::now();
        send(&bulk, &told, first + 30..first + 35);
        send(&bulk, &told, first + 35..first + 45);
        told.wait(usize::try_from(first).unwrap() + 45);
        begun.elapsed() >= Duration::from_millis(950)
    });
    assert!(gathered, "nothing was gathered for a second");
}
