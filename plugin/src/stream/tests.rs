//! What one event does. Random schedules are in `model`.

mod model;

use super::*;
use sluice_proto::class::ErrorClass;
use sluice_proto::v1::{Fate, ProduceRequest, Stored, TopicFate, topic_fate};

/// Everything that a stream did.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) opened: Vec<Token>,
    pub(super) sent: Vec<(Token, Vec<RecordId>)>,
    pub(super) withdrawn: Vec<(Token, RecordId)>,
    pub(super) closed: Vec<Token>,
    pub(super) cancelled: Vec<Token>,
    pub(super) answers: Vec<(u32, Outcome)>,
    pub(super) refuse_open: bool,
    pub(super) refuse_send: bool,
    pub(super) next: Token,
}

impl Effects<u32> for World {
    fn open(&mut self) -> Option<Token> {
        if self.refuse_open {
            return None;
        }
        self.next += 1;
        self.opened.push(self.next);
        Some(self.next)
    }

    fn send(&mut self, stream: Token, message: &[u8], records: usize) -> bool {
        if self.refuse_send {
            return false;
        }
        let request = ProduceRequest::decode(message).unwrap();
        let (withdrawn, sent): (Vec<_>, Vec<_>) = request.records.iter().partition(|record| record.withdrawn);
        assert_eq!(sent.len(), records);
        if !sent.is_empty() {
            self.sent
                .push((stream, sent.iter().map(|record| record.id).collect()));
        }
        self.withdrawn
            .extend(withdrawn.iter().map(|record| (stream, record.id)));
        true
    }

    fn close(&mut self, stream: Token) {
        self.closed.push(stream);
    }

    fn cancel(&mut self, stream: Token) {
        self.cancelled.push(stream);
    }

    fn answer(&mut self, owner: u32, outcome: Outcome) {
        self.answers.push((owner, outcome));
    }
}

/// A record with a value of that many bytes.
pub(super) fn write(out: &mut Vec<u8>, id: RecordId, size: usize) {
    let record = sluice_proto::v1::Record {
        id,
        value: Some(vec![b'v'; size].into()),
        ..Default::default()
    };
    let records = vec![record];
    ProduceRequest { records }.encode(out).unwrap();
}

/// A reply that says `stored` of each.
pub(super) fn stored(ids: &[RecordId], drain: bool) -> Vec<u8> {
    let fates = ids.iter().map(|id| Fate {
        id: *id,
        topics: vec![stored_fate()],
        replayed: false,
        ..Default::default()
    });
    let fates = fates.collect();
    ProduceReply { fates, drain }.encode_to_vec()
}

pub(super) fn stored_fate() -> TopicFate {
    let stored = Stored {
        partition: 0,
        offset: 7,
    };
    TopicFate {
        result: Some(topic_fate::Result::Stored(stored)),
    }
}

const SECOND: u64 = 1_000_000;

struct Bench {
    stream: Stream<u32>,
    world: World,
    now_us: u64,
    owners: u32,
}

impl Bench {
    fn new(settings: StreamSettings) -> Self {
        Self {
            stream: Stream::new(settings),
            world: World::default(),
            now_us: 10 * SECOND,
            owners: 0,
        }
    }

    fn open() -> Self {
        let mut bench = Self::new(StreamSettings::default());
        bench.produce(1).unwrap();
        bench.tick();
        bench.stream.opened(1, bench.now_us, &mut bench.world);
        bench.ack(1, &bench.ids_sent());
        bench.world.answers.clear();
        bench.world.sent.clear();
        bench
    }

    fn produce(&mut self, size: usize) -> Result<RecordId, Refused<()>> {
        self.produce_of(size, Tag::default(), 0)
    }

    fn produce_of(&mut self, size: usize, tag: Tag, max: usize) -> Result<RecordId, Refused<()>> {
        self.owners += 1;
        let owner = self.owners;
        let deadline = self.now_us + 10 * SECOND;
        self.stream
            .produce(self.now_us, deadline, (tag, max), &mut self.world, |out, id| {
                write(out, id, size);
                Ok(owner)
            })
    }

    fn tick(&mut self) {
        self.stream.tick(self.now_us, &mut self.world);
    }

    fn ack(&mut self, stream: Token, ids: &[RecordId]) {
        self.stream
            .reply(stream, &stored(ids, false), self.now_us, &mut self.world);
    }

    fn ids_sent(&self) -> Vec<RecordId> {
        self.world.sent.iter().flat_map(|(_, ids)| ids.clone()).collect()
    }

    fn classes(&self) -> Vec<(u32, ErrorClass)> {
        let class = |outcome: &Outcome| match outcome {
            Outcome::Fates(_) | Outcome::Replayed(_) | Outcome::Answered(..) | Outcome::Chosen { .. } => {
                ErrorClass::Unspecified
            }
            Outcome::Failed(failed) => failed.class,
        };
        self.world
            .answers
            .iter()
            .map(|(owner, o)| (*owner, class(o)))
            .collect()
    }
}

#[test]
fn the_first_record_opens_the_stream_and_is_sent_once_the_sidecar_spoke() {
    let mut bench = Bench::new(StreamSettings::default());
    assert_eq!(bench.stream.tick_ms(), None);
    let id = bench.produce(5).unwrap();
    assert_eq!(bench.stream.tick_ms(), Some(GATHER_MS));
    bench.tick();
    assert_eq!(
        (bench.world.opened.as_slice(), bench.world.sent.len()),
        ([1].as_slice(), 0)
    );
    bench.stream.opened(1, bench.now_us, &mut bench.world);
    assert_eq!(bench.world.sent, [(1, vec![id])]);
    bench.ack(1, &[id]);
    assert_eq!(bench.world.answers, [(1, Outcome::Fates(vec![stored_fate()]))]);
    bench.tick();
    assert_eq!((bench.stream.tick_ms(), bench.stream.outstanding()), (None, 0));
}

#[test]
fn a_sidecar_that_cannot_be_reached_is_said_at_once_and_tried_again_later() {
    let mut bench = Bench::new(StreamSettings::default());
    bench.produce(5).unwrap();
    bench.tick();
    bench.stream.closed(1, bench.now_us, &mut bench.world);
    assert_eq!(bench.classes(), [(1, ErrorClass::SidecarUnavailable)]);
    assert_eq!(bench.produce(5), Err(Refused::Stream(UNREACHABLE)));
    bench.now_us += 10_000;
    bench.produce(5).unwrap();
    bench.world.refuse_open = true;
    bench.tick();
    assert_eq!(bench.classes()[1..], [(3, ErrorClass::SidecarUnavailable)]);
    bench.now_us += 19_000;
    assert_eq!(bench.produce(5), Err(Refused::Stream(UNREACHABLE)));
    assert_eq!(bench.stream.outstanding(), 0);
}

#[test]
fn a_sidecar_that_never_speaks_is_given_up() {
    let mut bench = Bench::new(StreamSettings::default());
    bench.produce(5).unwrap();
    bench.tick();
    bench.now_us += OPEN_TIMEOUT_US;
    bench.tick();
    assert_eq!(bench.world.cancelled, [1]);
    assert_eq!(bench.classes(), [(1, ErrorClass::SidecarUnavailable)]);
    assert_eq!(bench.stream.tick_ms(), None);
}

#[test]
fn records_are_gathered_while_messages_are_under_way() {
    let mut bench = Bench::open();
    let ids: Vec<_> = (0..6).map(|_| bench.produce(5).unwrap()).collect();
    assert_eq!(bench.world.sent, [(1, vec![ids[0]]), (1, vec![ids[1]])]);
    assert_eq!(bench.stream.tick_ms(), Some(GATHER_MS));
    bench.ack(1, &[ids[0]]);
    assert_eq!(bench.world.sent[2..], [(1, ids[2..].to_vec())]);
}

#[test]
fn gathered_records_wait_for_a_tick_at_most() {
    let mut bench = Bench::open();
    let ids: Vec<_> = (0..4).map(|_| bench.produce(5).unwrap()).collect();
    bench.now_us += 1000;
    bench.tick();
    assert_eq!(bench.world.sent[2..], [(1, ids[2..].to_vec())]);
    assert_eq!(bench.stream.tick_ms(), Some(GATHER_MS), "more may follow");
    bench.now_us += 1000;
    bench.tick();
    assert_eq!(bench.stream.tick_ms(), Some(WATCH_MS), "none did");
}

#[test]
fn a_record_without_fate_does_not_make_later_ones_wait() {
    let mut bench = Bench::open();
    for _ in 0..100 {
        bench.produce(5).unwrap();
    }
    bench.now_us += 1000;
    bench.tick();
    bench.world.sent.clear();
    bench.now_us += 1000;
    let id = bench.produce(5).unwrap();
    assert_eq!(bench.world.sent, [(1, vec![id])]);
}

#[test]
fn enough_gathered_bytes_are_sent_at_once_in_messages_of_that_size() {
    let gather_bytes = 100;
    let settings = StreamSettings {
        gather_bytes,
        ..Default::default()
    };
    let mut bench = Bench::new(settings);
    let ids: Vec<_> = (0..5).map(|_| bench.produce(40).unwrap()).collect();
    bench.tick();
    bench.stream.opened(1, bench.now_us, &mut bench.world);
    let messages: Vec<_> = ids.chunks(2).map(|ids| (1, ids.to_vec())).collect();
    assert_eq!(bench.world.sent, messages);
    bench.world.sent.clear();
    let large = bench.produce(500).unwrap();
    assert_eq!(bench.world.sent, [(1, vec![large])]);
}

#[test]
fn past_a_bound_nothing_is_taken() {
    let mut bench = Bench::new(StreamSettings {
        max_outstanding_records: 2,
        max_outstanding_bytes: 200,
        ..Default::default()
    });
    bench.produce(50).unwrap();
    assert_eq!(bench.produce(150), Err(Refused::Stream(FULL)), "bytes");
    assert_eq!(bench.produce(300), Err(Refused::Stream(TOO_LARGE)));
    bench.produce(50).unwrap();
    assert_eq!(bench.produce(1), Err(Refused::Stream(FULL)), "records");
    bench.tick();
    bench.stream.opened(1, bench.now_us, &mut bench.world);
    let ids = bench.ids_sent();
    assert_eq!(ids.len(), 2);
    bench.stream.departed(ids[0], false);
    assert_eq!(
        bench.produce(1),
        Err(Refused::Stream(FULL)),
        "Envoy may still hold it"
    );
    bench.ack(1, &ids);
    bench.produce(1).unwrap();
}

#[test]
fn who_leaves_withdraws_what_was_sent_and_has_no_fate_yet() {
    let mut bench = Bench::open();
    for _ in 0..4 {
        bench.produce(1).unwrap();
        bench.now_us += 2000;
    }
    bench.tick();
    let ids = bench.ids_sent();
    assert_eq!(ids.len(), 4);
    bench.stream.departed(ids[0], true);
    bench.stream.departed(ids[1], false);
    bench.stream.departed(ids[2], true);
    bench.ack(1, &ids[2..3]);
    assert_eq!(bench.world.withdrawn, []);
    assert!(bench.stream.tick_ms().is_some());
    bench.tick();
    assert_eq!(bench.world.withdrawn, [(1, ids[0])]);
    bench.tick();
    assert_eq!(bench.world.withdrawn.len(), 1, "once");
    // On the stream that it went on, though others are open by now.
    let drain = ProduceReply {
        fates: Vec::new(),
        drain: true,
    };
    bench
        .stream
        .reply(1, &drain.encode_to_vec(), bench.now_us, &mut bench.world);
    bench.stream.opened(2, bench.now_us, &mut bench.world);
    bench.stream.departed(ids[3], true);
    bench.tick();
    assert_eq!(bench.world.withdrawn[1..], [(1, ids[3])]);
    // What is not sent yet is just not sent.
    let mut bench = Bench::new(StreamSettings::default());
    let unsent = bench.produce(1).unwrap();
    assert!(bench.stream.departed(unsent, true));
    bench.tick();
    bench.stream.opened(1, bench.now_us, &mut bench.world);
    bench.tick();
    assert_eq!((bench.world.withdrawn.len(), bench.world.sent.len()), (0, 0));
    // A stream that does not take it is gone.
    let mut bench = Bench::open();
    let id = bench.produce(1).unwrap();
    bench.stream.departed(id, true);
    bench.world.refuse_send = true;
    bench.tick();
    assert_eq!(bench.world.cancelled, [1]);
}

#[test]
fn a_client_leaves_room_for_others() {
    let mut bench = Bench::new(StreamSettings {
        max_outstanding_records: 100,
        max_outstanding_bytes: 100_000,
        ..Default::default()
    });
    let of = |client| Tag { client, route: None };
    let taken = |bench: &mut Bench, client, size| {
        let taken = (0..200).take_while(|_| bench.produce_of(size, of(client), 0).is_ok());
        taken.count()
    };
    assert_eq!(taken(&mut bench, 1, 1), 80);
    assert_eq!(bench.produce_of(1, of(1), 0), Err(Refused::Stream(CLIENT_FULL)));
    assert_eq!(taken(&mut bench, 2, 1), 16, "of 20");
    assert_eq!(taken(&mut bench, 3, 1), 4);
    assert_eq!(
        bench.produce_of(1, of(4), 0),
        Err(Refused::Stream(FULL)),
        "there is none left"
    );

    let mut bench = Bench::new(StreamSettings {
        max_outstanding_bytes: 100_000,
        ..Default::default()
    });
    assert_eq!(taken(&mut bench, 1, 990), 80, "bytes");
    bench.produce_of(1000, of(2), 0).unwrap();
}

#[test]
fn a_route_has_no_more_than_its_bound() {
    let mut bench = Bench::open();
    let route = std::rc::Rc::new(std::cell::Cell::new(0));
    let of = || Tag {
        client: 0,
        route: Some(std::rc::Rc::clone(&route)),
    };
    let first = bench.produce_of(1, of(), 2).unwrap();
    bench.produce_of(1, of(), 2).unwrap();
    assert_eq!(bench.produce_of(1, of(), 2), Err(Refused::Stream(ROUTE_FULL)));
    bench.produce(1).unwrap();
    bench.ack(1, &[first]);
    bench.produce_of(1, of(), 2).unwrap();
}

#[test]
fn clients_are_told_apart_while_there_is_little_room() {
    let mut bench = Bench::open();
    let apart = |bench: &Bench| bench.stream.tells_clients_apart(bench.now_us);
    assert!(!apart(&bench));
    let id = bench.produce(1).unwrap();
    let full = |class: ErrorClass| TopicFate {
        result: Some(topic_fate::Result::Failure(sluice_proto::v1::Failure {
            class: class.into(),
            message: String::new(),
        })),
    };
    let reply = |id, class| {
        let fates = vec![Fate {
            id,
            topics: vec![stored_fate(), full(class)],
            replayed: false,
            ..Default::default()
        }];
        ProduceReply { fates, drain: false }.encode_to_vec()
    };
    let (world, now_us) = (&mut bench.world, bench.now_us);
    bench
        .stream
        .reply(1, &reply(id, ErrorClass::ClusterUnavailable), now_us, world);
    assert!(!apart(&bench));
    let id = bench.produce(1).unwrap();
    let world = &mut bench.world;
    bench
        .stream
        .reply(1, &reply(id, ErrorClass::BufferFull), now_us, world);
    assert!(apart(&bench));
    bench.now_us += PRESSED_US;
    assert!(!apart(&bench));

    let mut bench = Bench::new(StreamSettings {
        max_outstanding_records: 8,
        ..Default::default()
    });
    bench.produce(1).unwrap();
    assert!(!apart(&bench));
    bench.produce(1).unwrap();
    assert!(apart(&bench), "records");
    let mut bench = Bench::new(StreamSettings {
        max_outstanding_bytes: 4000,
        ..Default::default()
    });
    bench.produce(900).unwrap();
    assert!(!apart(&bench));
    bench.produce(100).unwrap();
    assert!(apart(&bench), "bytes");
}

#[test]
fn a_record_that_cannot_be_written_leaves_nothing_behind() {
    let mut bench = Bench::open();
    let refused = bench.stream.produce(
        bench.now_us,
        u64::MAX,
        (Tag::default(), 0),
        &mut bench.world,
        |out, _| {
            out.extend_from_slice(b"half a rec");
            Err("broken")
        },
    );
    assert_eq!(refused, Err(Refused::Record("broken")));
    let id = bench.produce(1).unwrap();
    assert_eq!(bench.world.sent, [(1, vec![id])]);
}

#[test]
fn a_passed_deadline_is_unknown_if_sent_and_not_stored_if_not() {
    let mut bench = Bench::open();
    let sent = bench.produce(1).unwrap();
    bench
        .stream
        .reply(1, &stored(&[], true), bench.now_us, &mut bench.world);
    assert_eq!(bench.world.opened, [1, 2]);
    bench.produce(1).unwrap();
    bench.now_us += 10 * SECOND;
    bench.stream.expire(bench.now_us, &mut bench.world);
    let (late, early) = (ErrorClass::OutcomeUnknown, ErrorClass::SidecarUnavailable);
    assert_eq!(bench.classes(), [(2, late), (3, early)]);
    bench.world.sent.clear();
    bench.stream.opened(2, bench.now_us, &mut bench.world);
    assert!(bench.world.sent.is_empty(), "it was answered: not stored");
    bench.ack(1, &[sent]);
    assert_eq!(bench.world.answers.len(), 2, "the late ack changes nothing");
    assert_eq!(bench.world.closed, [1], "it owes nothing more");
}

#[test]
fn a_stream_that_ends_leaves_sent_records_unknown_and_the_others_unstored() {
    let mut bench = Bench::open();
    for _ in 0..4 {
        bench.produce(1).unwrap();
    }
    bench.stream.closed(1, bench.now_us, &mut bench.world);
    let (sent, unsent) = (ErrorClass::OutcomeUnknown, ErrorClass::SidecarUnavailable);
    assert_eq!(bench.classes(), [(2, sent), (3, sent), (4, unsent), (5, unsent)]);
    bench.produce(1).unwrap();
    bench.tick();
    assert_eq!(
        bench.world.opened,
        [1, 2],
        "a stream that worked is replaced at once"
    );
}

#[test]
fn a_stream_that_cannot_be_written_to_is_given_up() {
    let mut bench = Bench::open();
    bench.world.refuse_send = true;
    bench.produce(1).unwrap();
    assert_eq!(bench.classes(), [(2, ErrorClass::SidecarUnavailable)]);
    assert_eq!(bench.world.cancelled, [1]);
}

#[test]
fn a_reply_that_cannot_be_read_ends_the_stream() {
    let mut bench = Bench::open();
    bench.produce(1).unwrap();
    bench
        .stream
        .reply(1, &[0x0a, 0xff], bench.now_us, &mut bench.world);
    assert_eq!(bench.world.cancelled, [1]);
    assert_eq!(bench.classes(), [(2, ErrorClass::OutcomeUnknown)]);
}

#[test]
fn a_sidecar_that_drains_is_sent_nothing_more_and_pays_what_it_owes() {
    let mut bench = Bench::open();
    let old: Vec<_> = (0..3).map(|_| bench.produce(1).unwrap()).collect();
    bench
        .stream
        .reply(1, &stored(&[], true), bench.now_us, &mut bench.world);
    bench.stream.opened(2, bench.now_us, &mut bench.world);
    assert_eq!(bench.world.sent[2..], [(2, vec![old[2]])]);
    let new = bench.produce(1).unwrap();
    assert_eq!(bench.world.sent[3..], [(2, vec![new])]);
    bench.ack(1, &[old[2]]);
    assert!(
        bench.world.answers.is_empty(),
        "that record went to the other stream"
    );
    bench.ack(1, &old[..2]);
    assert_eq!(bench.world.closed, [1]);
    bench.ack(2, &[new, old[2]]);
    assert_eq!(bench.world.answers.len(), 4);
}

#[test]
fn a_sidecar_that_drains_every_stream_is_left_alone_for_a_while() {
    let mut bench = Bench::new(StreamSettings::default());
    bench.produce(1).unwrap();
    bench.tick();
    bench
        .stream
        .reply(1, &stored(&[], true), bench.now_us, &mut bench.world);
    assert_eq!(bench.classes(), [(1, ErrorClass::SidecarUnavailable)]);
    assert_eq!(bench.produce(1), Err(Refused::Stream(UNREACHABLE)));
}

#[test]
fn old_streams_that_never_pay_are_given_up_in_the_end() {
    let mut bench = Bench::open();
    for token in 1..=6 {
        bench.stream.opened(token, bench.now_us, &mut bench.world);
        bench.produce(1).unwrap();
        bench.now_us += HEALTHY_US;
        bench
            .stream
            .reply(token, &stored(&[], true), bench.now_us, &mut bench.world);
    }
    assert_eq!(bench.world.cancelled, [1, 2]);
    let unknown = ErrorClass::OutcomeUnknown;
    assert_eq!(bench.classes(), [(2, unknown), (3, unknown)]);
}

#[test]
fn whoever_left_is_neither_answered_nor_written() {
    let mut bench = Bench::open();
    let ids: Vec<_> = (0..5).map(|_| bench.produce(9).unwrap()).collect();
    assert!(bench.stream.departed(ids[0], false));
    assert!(bench.stream.departed(ids[3], false));
    assert!(!bench.stream.departed(ids[3], false));
    assert!(!bench.stream.departed(77, false));
    bench.ack(1, &[ids[0], ids[1]]);
    assert_eq!(bench.world.sent[2..], [(1, vec![ids[2], ids[4]])]);
    assert_eq!(bench.classes(), [(3, ErrorClass::Unspecified)]);
}

#[test]
fn what_is_not_ours_is_ignored() {
    let mut bench = Bench::open();
    let id = bench.produce(1).unwrap();
    bench.ack(9, &[id]);
    bench.stream.closed(9, bench.now_us, &mut bench.world);
    bench.stream.opened(9, bench.now_us, &mut bench.world);
    bench.ack(1, &[id + 1, 0, u64::MAX]);
    assert!(bench.world.answers.is_empty());
    bench.ack(1, &[id, id]);
    assert_eq!(bench.world.answers.len(), 1);
}
