//! The sidecar's end of the gRPC stream, scripted by the test.

use std::time::Duration;

use prost::Message;
use sluice_proto::v1::{
    Accepted, ErrorClass, Failure, Fate, ProduceReply, ProduceRequest, Record, Stored, TopicFate,
    topic_fate::Result,
};

use crate::{
    maps::Pairs,
    state::{Event, State},
    status::Status,
};

/// What the sidecar does when a stream opens.
#[derive(Debug, Clone, Default)]
pub enum Opening {
    /// It sends its initial metadata with `sluice-stream: 1`.
    #[default]
    Accept,
    /// Something else answers: initial metadata without that header.
    Stranger,
    /// Nothing is heard of it.
    Silent,
    /// Nobody is there: empty initial metadata, then the stream closes with this gRPC status.
    Refuse(u32),
    /// Opening fails at once, with this status of the host call.
    Fail(Status),
}

/// What the script says about one record.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// How long its fate takes.
    pub after: Duration,
    /// One for each topic.
    pub topics: Vec<TopicFate>,
}

type Script = Box<dyn FnMut(&Record) -> Option<Verdict> + Send>;

/// The sidecar behind the stream.
#[derive(Default)]
pub struct Sidecar {
    pub(crate) opening: Opening,
    script: Option<Script>,
    pub(crate) inbox: Vec<Sent>,
    /// How many records each message carried, in order.
    pub(crate) batches: Vec<usize>,
}

impl Sidecar {
    /// What happens to streams that open from now on.
    pub fn on_open(&mut self, opening: Opening) {
        self.opening = opening;
    }

    /// Decides each record's fate as it arrives; `None` leaves it to the test.
    pub fn script(&mut self, script: impl FnMut(&Record) -> Option<Verdict> + Send + 'static) {
        self.script = Some(Box::new(script));
    }

    /// Every record is stored at once, in partition 0 and at ascending offsets.
    pub fn store_all(&mut self) {
        let mut offset = -1;
        self.script(move |record| {
            offset += 1;
            let topics = record.topics.iter().map(|_| stored(0, offset)).collect();
            Some(Verdict {
                after: Duration::ZERO,
                topics,
            })
        });
    }

    /// How many records each message so far carried.
    pub fn batches(&self) -> &[usize] {
        &self.batches
    }
}

/// A record as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The stream that it arrived on.
    pub stream: u32,
    /// The record.
    pub record: Record,
}

/// A stream that the filter opened.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The token that the filter knows it by.
    pub token: u32,
    /// The root context that it belongs to.
    pub root: u32,
    /// The gRPC service.
    pub service: String,
    /// The method.
    pub method: String,
    /// The metadata that it was opened with.
    pub metadata: Pairs,
    /// The sidecar has closed it.
    pub closed: bool,
    /// The filter has closed its half.
    pub half_closed: bool,
    /// The filter, or the end of its context, reset it.
    pub reset: bool,
    /// Messages that were written after the sidecar had closed: Envoy drops them without a word.
    pub lost: usize,
}

impl Stream {
    /// Whether messages still go both ways.
    pub fn is_open(&self) -> bool {
        !self.closed && !self.reset
    }
}

/// The broker acknowledged.
pub fn stored(partition: i32, offset: i64) -> TopicFate {
    TopicFate {
        result: Some(Result::Stored(Stored { partition, offset })),
    }
}

/// The sidecar holds it.
pub fn accepted() -> TopicFate {
    TopicFate {
        result: Some(Result::Accepted(Accepted {})),
    }
}

/// It was not (known to be) stored.
pub fn failed(class: ErrorClass, message: &str) -> TopicFate {
    failed_as(class as i32, message)
}

/// [`failed`] with any number as class.
pub fn failed_as(class: i32, message: &str) -> TopicFate {
    TopicFate {
        result: Some(Result::Failure(Failure {
            class,
            message: message.to_owned(),
        })),
    }
}

impl State {
    /// A stream opens: gives its token.
    pub(crate) fn open_stream(
        &mut self,
        service: String,
        method: String,
        metadata: Pairs,
    ) -> std::result::Result<u32, Status> {
        if let Opening::Fail(status) = self.sidecar.opening {
            return Err(status);
        }
        // The two low bits say that the token is a stream's.
        self.last_stream += 1;
        let token = self.last_stream * 4 + 2;
        let root = self.acting_root();
        let stream = Stream {
            token,
            root,
            service,
            method,
            metadata,
            closed: false,
            half_closed: false,
            reset: false,
            lost: 0,
        };
        self.streams.insert(token, stream);
        match self.sidecar.opening {
            Opening::Accept => self
                .events
                .push_back(Event::StreamMetadata(token, greeting(true))),
            Opening::Stranger => self
                .events
                .push_back(Event::StreamMetadata(token, greeting(false))),
            Opening::Silent | Opening::Fail(_) => {}
            Opening::Refuse(code) => {
                self.events.push_back(Event::StreamMetadata(token, Pairs::new()));
                self.events.push_back(Event::StreamClose(token, code));
            }
        }
        Ok(token)
    }

    /// The filter writes a message.
    pub(crate) fn stream_send(
        &mut self,
        token: u32,
        message: &[u8],
        end: bool,
    ) -> std::result::Result<(), Status> {
        if token & 3 != 2 {
            return Err(Status::BadArgument);
        }
        let root = self.acting_root();
        let stream = self
            .streams
            .get_mut(&token)
            .filter(|s| s.root == root && !s.reset);
        let stream = stream.ok_or(Status::NotFound)?;
        if stream.closed {
            stream.lost += 1;
            return Ok(());
        }
        stream.half_closed |= end;
        if message.is_empty() && end {
            return Ok(());
        }
        match ProduceRequest::decode(message) {
            Ok(request) => self.receive(token, request),
            Err(e) => self.misused(format!("a message that is no ProduceRequest: {e}")),
        }
        Ok(())
    }

    fn receive(&mut self, stream: u32, request: ProduceRequest) {
        self.sidecar.batches.push(request.records.len());
        let mut replies: Vec<(Duration, Vec<Fate>)> = Vec::new();
        for record in request.records {
            let verdict = self.sidecar.script.as_mut().and_then(|script| script(&record));
            if let Some(Verdict { after, topics }) = verdict {
                let fate = Fate {
                    id: record.id,
                    topics,
                    replayed: false,
                    answer: None,
                };
                match replies.iter_mut().find(|(when, _)| *when == after) {
                    Some((_, fates)) => fates.push(fate),
                    None => replies.push((after, vec![fate])),
                }
            }
            self.sidecar.inbox.push(Sent { stream, record });
        }
        for (after, fates) in replies {
            let reply = ProduceReply { fates, drain: false };
            self.schedule(after, Event::StreamMessage(stream, reply.encode_to_vec()));
        }
    }
}

/// The initial metadata of a call that was answered; with the sidecar's own header, or without.
pub(crate) fn greeting(own: bool) -> Pairs {
    let mut headers = vec![(":status", "200"), ("content-type", "application/grpc")];
    if own {
        headers.push((sluice_proto::STREAM_HEADER, sluice_proto::STREAM_VERSION));
    }
    headers.into_iter().map(|(n, v)| (n.into(), v.into())).collect()
}
