//! What is behind the worker: the sidecar's end of streams, and HTTP calls.

use prost::Message;
use sluice_proto::v1::{self, Fate, ProduceReply, TopicFate};

use crate::{
    host::Host,
    sidecar::{Sent, Sidecar, Stream, greeting},
    state::Event,
    upstream::{Answer, HttpCall},
};

impl Host {
    /// The sidecar's script.
    pub fn sidecar(&mut self) -> &mut Sidecar {
        &mut self.store.data_mut().sidecar
    }

    /// The records that have arrived since the last call.
    pub fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sidecar().inbox)
    }

    /// The record's fate, in a reply of its own.
    #[track_caller]
    pub fn answer(&mut self, sent: &Sent, topics: Vec<TopicFate>) {
        self.fate(sent, topics, false, None);
    }

    /// The record's fate with what its client is answered, in a reply of its own.
    #[track_caller]
    pub fn answer_with(&mut self, sent: &Sent, topics: Vec<TopicFate>, answer: v1::Answer) {
        self.fate(sent, topics, false, Some(answer));
    }

    /// The fate of an earlier record with the same idempotency key, in a reply of its own.
    #[track_caller]
    pub fn replay(&mut self, sent: &Sent, topics: Vec<TopicFate>) {
        self.fate(sent, topics, true, None);
    }

    #[track_caller]
    fn fate(&mut self, sent: &Sent, topics: Vec<TopicFate>, replayed: bool, answer: Option<v1::Answer>) {
        let fates = vec![Fate {
            id: sent.record.id,
            topics,
            replayed,
            answer: answer.map(Box::new),
            ..Default::default()
        }];
        self.sidecar_says(sent.stream, &ProduceReply { fates, drain: false });
    }

    /// The sidecar writes this on the stream.
    #[track_caller]
    pub fn sidecar_says(&mut self, stream: u32, reply: &ProduceReply) {
        self.sidecar_writes(stream, reply.encode_to_vec());
    }

    /// The sidecar writes any bytes on the stream.
    #[track_caller]
    pub fn sidecar_writes(&mut self, stream: u32, bytes: Vec<u8>) {
        self.store
            .data_mut()
            .events
            .push_back(Event::StreamMessage(stream, bytes));
        self.pump();
    }

    /// A sidecar that was silent when the stream opened greets now.
    #[track_caller]
    pub fn sidecar_greets(&mut self, stream: u32) {
        self.store
            .data_mut()
            .events
            .push_back(Event::StreamMetadata(stream, greeting(true)));
        self.pump();
    }

    /// The sidecar's end closes with this gRPC status.
    #[track_caller]
    pub fn sidecar_closes(&mut self, stream: u32, status: u32) {
        self.store
            .data_mut()
            .events
            .push_back(Event::StreamClose(stream, status));
        self.pump();
    }

    /// All streams that were opened, in order.
    pub fn streams(&self) -> Vec<Stream> {
        self.state().streams.values().cloned().collect()
    }

    /// The token of the youngest stream that is open.
    ///
    /// # Panics
    /// None is.
    #[track_caller]
    pub fn stream(&self) -> u32 {
        match self.state().streams.values().rev().find(|s| s.is_open()) {
            Some(stream) => stream.token,
            None => self.broken("no stream is open"),
        }
    }

    /// Keeps HTTP calls from being made, or lets them go.
    #[track_caller]
    pub fn hold_calls(&mut self, hold: bool) {
        let state = self.store.data_mut();
        state.calls_held = hold;
        if !hold {
            let held: Vec<_> = state.calls.keys().copied().collect();
            state.events.extend(held.into_iter().map(Event::Call));
            self.pump();
        }
    }

    /// HTTP calls that have no answer yet.
    pub fn calls(&self) -> Vec<HttpCall> {
        self.state().calls.values().cloned().collect()
    }

    /// The call ends without an answer: Envoy's callback has no headers then.
    #[track_caller]
    pub fn reset_call(&mut self, token: u32) {
        self.store
            .data_mut()
            .events
            .push_back(Event::CallAnswer(token, Answer::reset()));
        self.pump();
    }

    /// The call gets an answer that the test makes up.
    #[track_caller]
    pub fn answer_call(&mut self, token: u32, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let status = (":status".into(), status.to_string().into());
        let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        let headers = std::iter::once(status).chain(headers).collect();
        let answer = Answer {
            headers,
            body: body.to_vec(),
        };
        self.store
            .data_mut()
            .events
            .push_back(Event::CallAnswer(token, answer));
        self.pump();
    }
}
