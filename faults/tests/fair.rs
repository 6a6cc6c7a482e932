//! More than fits, of one client, one topic or one route, beside others that are modest.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::json;
use sluice_e2e::client::Client;
use sluice_e2e::envoy::produce;
use sluice_e2e::kafka::{Kafka, Setup};
use sluice_e2e::rig::{Parts, Rig};
use sluice_e2e::scenario::scenario;
use sluice_e2e::{Result, ensure, wait};
use sluice_faults::ledger::Entry;
use sluice_faults::link::{Link, Weather};
use sluice_faults::load::{Load, Plan};
use sluice_faults::shed::slow_to_refuse;
use tokio::time::sleep;

const S: Duration = Duration::from_secs(1);

/// An address of loopback's, other than the one that everybody has.
fn from(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn plan(rate: u32) -> Plan {
    Plan {
        rate,
        ..Plan::default()
    }
}

/// How many were answered 2xx, and how many otherwise, of those that were due after `since`.
fn answers(ledger: &[Entry], since: Duration) -> (usize, usize) {
    let after: Vec<_> = ledger.iter().filter(|entry| entry.due > since).collect();
    let served = after.iter().filter(|entry| entry.is_success()).count();
    (served, after.len() - served)
}

#[test]
fn a_greedy_client_topic_or_route_leaves_the_others_alone() -> Result<()> {
    scenario("fair", async |s| {
        let setup = Setup {
            linked: true,
            ..Setup::default()
        };
        let kafka = Kafka::start(s.dir(), &setup).await?;
        let fronts = kafka.links();
        let link = Link::start(&fronts).await?;
        let addresses: Vec<_> = fronts
            .iter()
            .map(|(front, _)| format!("127.0.0.1:{front}"))
            .collect();
        let (busy, quiet) = (s.topic("busy"), s.topic("quiet"));
        for topic in [&busy, &quiet] {
            kafka.create_topic(topic, 3).await?;
        }
        let route = |topic: &str| json!({"topic": topic, "value": "body", "key": {"header": "x-key"}});
        let mut bounded = route(&quiet);
        bounded["max_outstanding_records"] = json!(3);
        let routes = vec![
            produce("/busy", route(&busy)),
            produce("/quiet", route(&quiet)),
            produce("/bounded", bounded),
        ];
        let rig = Rig::start(s, Parts::new(&addresses.join(","), routes)).await?;
        let client = |last| Client::from(rig.envoy.h1(), from(last));
        for path in ["/busy", "/quiet"] {
            wait::until("a record is stored", S * 30, async || {
                rig.envoy.h1().post(path, "text/plain", "x").await?.expect(200)?;
                Ok(())
            })
            .await?;
        }
        let greedy = Load::start(client(2), "/busy", plan(600));
        let mut loads = [
            greedy,
            Load::start(client(3), "/busy", plan(2)),
            Load::start(client(2), "/quiet", plan(2)),
        ];
        sleep(S).await;
        link.set(Weather::Narrow(15_000));
        wait::until("something is refused", S * 30, async || {
            let shed = rig.sidecar.metric("sluice_shed_records_total", "").await?;
            ensure!(shed > 0.0, "nothing is");
            Ok(())
        })
        .await?;
        // What came before it was noticed is through.
        wait::until("little waits", S * 60, async || {
            let waiting = rig.sidecar.metric("sluice_outstanding_records", "").await?;
            ensure!(waiting < 50.0, "{waiting} do");
            Ok(())
        })
        .await?;
        let since = loads.each_ref().map(Load::now);
        sleep(S * 20).await;
        let mut seen = [(0, 0); 3];
        for ((load, since), seen) in loads.iter_mut().zip(since).zip(&mut seen) {
            *seen = answers(&load.finish().await?, since);
        }
        let [greedy, modest, quiet] = seen;
        ensure!(greedy.1 > greedy.0, "nothing was overloaded: {greedy:?}");
        ensure!(greedy.0 > 0, "nothing of the greedy one's is served: {greedy:?}");
        // It asks for a tenth of its part at most, and its requests overlap.
        ensure!(
            modest.0 >= 30 && modest.1 * 10 <= modest.0,
            "the modest client: {modest:?}, the greedy one: {greedy:?}"
        );
        println!("the modest client: {modest:?}, the greedy one: {greedy:?}, the quiet topic: {quiet:?}");
        ensure!(
            quiet.0 >= 30 && quiet.1 * 10 <= quiet.0,
            "the quiet topic: {quiet:?}"
        );
        let shed = rig
            .sidecar
            .metric("sluice_shed_records_total", "reason=\"queueing\"")
            .await?;
        ensure!(shed > 0.0, "the sidecar does not count what it refuses");

        // A route's own bound, which the filter has: what it refuses does not wait for what it takes.
        link.set(Weather::Slow(S / 5));
        let mut load = Load::start(client(2), "/bounded", plan(40));
        sleep(S * 5).await;
        let ledger = load.finish().await?;
        let took = |status| {
            let of_status = ledger.iter().filter(|entry| entry.status() == Some(status));
            of_status.map(Entry::took).collect::<Vec<_>>()
        };
        let (mut served, mut refused) = (took(200), took(503));
        ensure!(
            served.len() >= 5 && refused.len() >= 50,
            "{} served, {} refused",
            served.len(),
            refused.len()
        );
        let slow = slow_to_refuse(&mut served, &mut refused);
        ensure!(slow.is_none(), "refused too late: {slow:?}");

        // While nothing is acknowledged.
        link.set(Weather::Blackhole);
        let mut flood = Load::start(client(2), "/bounded", plan(20));
        sleep(S).await;
        let reply = client(3).post("/bounded", "text/plain", "x").await?;
        let text = reply.text();
        ensure!(reply.status == 503 && text.contains("route's"), "{text}");
        link.set(Weather::Fair);
        wait::until("the bounded route is served", S * 30, async || {
            client(3).post("/bounded", "text/plain", "x").await?.expect(200)?;
            Ok(())
        })
        .await?;
        flood.finish().await?;
        Ok(())
    })
}
