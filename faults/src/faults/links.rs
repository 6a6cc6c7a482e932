//! Networks that lose, delay and reset, between sidecar and brokers and between brokers.

use std::time::Duration;

use tokio::time::sleep;

use super::{Fault, KEEPS, S, UNFELT, Work, within};
use crate::link::Weather;
use crate::world::{Shape, World};

/// Those faults.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "link-blackholed",
        what: "nothing passes between sidecar and broker for 6 s, and nobody is told (no RST)",
        shape: Shape::Linked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::Blackhole, 6),
    },
    Fault {
        name: "link-blackholed-long",
        what: "the same for 8 s with a `producer_request_timeout` of 2 s: requests are given up and sent again",
        shape: Shape::Linked,
        settings: &[("producers/default/producer_request_timeout", "2000")],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::Blackhole, 8),
    },
    Fault {
        name: "link-answers-lost",
        what: "cut one way: what the broker answers does not arrive for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::AnswersLost, 6),
    },
    Fault {
        name: "link-requests-lost",
        what: "cut the other way: what the broker is asked does not arrive for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::RequestsLost, 6),
    },
    Fault {
        name: "message-timeout",
        what: "no answer of the broker arrives for 8 s, and a `message.timeout.ms` of 2 s ends while records are in flight",
        shape: Shape::Linked,
        settings: &[(
            "producers/default/properties",
            r#"{"message.timeout.ms": 2000, "request.timeout.ms": 1000}"#,
        )],
        keeps: KEEPS,
        inflict: |world| weather(world, Weather::AnswersLost, 8),
    },
    Fault {
        name: "link-slow",
        what: "every byte takes 200 ms more, each way, for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| weather(world, Weather::Slow(Duration::from_millis(200)), 6),
    },
    Fault {
        name: "link-reset",
        what: "connections to the broker are reset every 300 ms for 6 s",
        shape: Shape::Linked,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| resets(world),
    },
    Fault {
        name: "link-one-blackholed",
        what: "of three brokers, the leader of most partitions cannot be reached by the sidecar for 6 s; it goes on leading",
        shape: Shape::ThreeLinked,
        settings: &[],
        keeps: KEEPS,
        inflict: |world| {
            Box::pin(async {
                world.link()?.set_one(2, Weather::Blackhole)?;
                sleep(S * 6).await;
                world.link()?.set_one(2, Weather::Fair)
            })
        },
    },
    Fault {
        name: "link-three-reset",
        what: "connections to all of three brokers are reset every 300 ms for 6 s",
        shape: Shape::ThreeLinked,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| resets(world),
    },
    Fault {
        name: "replication-blackholed",
        what: "followers cannot fetch from the leader of most partitions for 8 s, twice as long as they may lag behind",
        shape: Shape::ThreeRelayed,
        settings: &[],
        keeps: within(5),
        inflict: |world| {
            Box::pin(async {
                world.link()?.set_one(2, Weather::Blackhole)?;
                sleep(S * 8).await;
                world.link()?.set_one(2, Weather::Fair)
            })
        },
    },
    Fault {
        name: "replication-slow",
        what: "every byte between brokers takes 200 ms more, each way, for 6 s",
        shape: Shape::ThreeRelayed,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| weather(world, Weather::Slow(Duration::from_millis(200)), 6),
    },
];

fn resets<'w>(world: &'w mut World<'_>) -> Work<'w> {
    Box::pin(async move {
        for _ in 0..20 {
            world.link()?.reset();
            sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    })
}

fn weather<'w>(world: &'w mut World<'_>, weather: Weather, seconds: u32) -> Work<'w> {
    Box::pin(async move {
        world.link()?.set(weather);
        sleep(S * seconds).await;
        world.link()?.set(Weather::Fair);
        Ok(())
    })
}
