//! Topics that go, grow, refuse and may not be written.

use tokio::time::sleep;

use super::{Fault, KEEPS, Keeps, S, UNFELT, rest, within};
use crate::compare::Deleted;
use crate::world::{PARTITIONS, Shape, USER};

/// Those faults.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "topic-deleted",
        what: "the topic is deleted, and made again after 4 s",
        shape: Shape::One,
        settings: &[],
        keeps: Keeps {
            answers: &[404],
            ..within(3)
        },
        inflict: |world| {
            Box::pin(async {
                world.kafka.delete_topic(&world.topic).await?;
                // Brokers hear of it after the controller.
                let gone = world.load.now() + S;
                sleep(S * 4).await;
                let again = world.load.now();
                world.deleted = Some(Deleted { gone, again });
                world.kafka.create_topic(&world.topic, PARTITIONS).await
            })
        },
    },
    Fault {
        name: "partitions-added",
        what: "the topic is given twice as many partitions",
        shape: Shape::One,
        settings: &[],
        keeps: UNFELT,
        inflict: |world| {
            Box::pin(async {
                world.kafka.add_partitions(&world.topic, PARTITIONS * 2).await?;
                rest(4).await
            })
        },
    },
    Fault {
        name: "too-few-replicas",
        what: "the topic asks for all three replicas (min.insync.replicas) while one of its brokers is stopped for 5 s",
        shape: Shape::Three,
        settings: &[],
        keeps: within(5),
        inflict: |world| {
            Box::pin(async {
                // Never more than a topic has replicas: a topic with one would not notice.
                world
                    .kafka
                    .set_topic(&world.topic, "min.insync.replicas=3")
                    .await?;
                world.kafka.node(3)?.stop().await?;
                sleep(S * 5).await;
                world.kafka.node(3)?.restart().await
            })
        },
    },
    Fault {
        name: "too-large",
        what: "one record in ten is larger than the topic takes; its neighbours are not",
        shape: Shape::One,
        settings: &[(
            "producers/default/producer_request_limits_bytes_per_request",
            "20000",
        )],
        keeps: UNFELT,
        inflict: |world| {
            Box::pin(async {
                world
                    .kafka
                    .set_topic(&world.topic, "max.message.bytes=20000")
                    .await?;
                world.load.poison(10);
                sleep(S * 5).await;
                world.load.poison(0);
                sleep(S / 2).await;
                Ok(())
            })
        },
    },
    Fault {
        name: "acl-revoked",
        what: "the sidecar's right to write is taken away, and given back after 5 s",
        shape: Shape::Secured,
        settings: &[],
        keeps: Keeps {
            answers: &[403],
            ..KEEPS
        },
        inflict: |world| {
            Box::pin(async {
                world.kafka.revoke(USER, "Write", &world.topic).await?;
                sleep(S * 5).await;
                world.kafka.allow(USER, "Write", &world.topic).await
            })
        },
    },
];
