//! Calls out: gRPC streams and HTTP calls. Both belong to the root of the acting context.

use std::time::Duration;

use prost::Message;
use wasmtime::Linker;

use super::answer;
use crate::{
    maps,
    memory::{Call, give, read, read_text, write_u32},
    state::{Event, State},
    status::Status,
    upstream::HttpCall,
};

pub(super) fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        "proxy_grpc_stream",
        |call: Call<'_>,
         upstream: u32,
         upstream_len: u32,
         service: u32,
         service_len: u32,
         method: u32,
         method_len: u32,
         metadata: u32,
         metadata_len: u32,
         token_at: u32| {
            answer(call, "proxy_grpc_stream", |c| {
                let upstream = read(c, upstream, upstream_len)?;
                let service = read_text(c, service, service_len)?;
                let method = read_text(c, method, method_len)?;
                let metadata = maps::decode(&read(c, metadata, metadata_len)?);
                let state = c.data_mut();
                known_cluster(state, &upstream)?;
                let token = state.open_stream(service, method, metadata)?;
                write_u32(c, token_at, token)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_grpc_send",
        |call: Call<'_>, token: u32, at: u32, len: u32, end: u32| {
            answer(call, "proxy_grpc_send", |c| {
                let message = read(c, at, len)?;
                c.data_mut().stream_send(token, &message, end != 0)
            })
        },
    )?;
    linker.func_wrap("env", "proxy_grpc_cancel", |call: Call<'_>, token: u32| {
        answer(call, "proxy_grpc_cancel", |c| {
            let root = c.data().acting_root();
            let stream = c
                .data_mut()
                .streams
                .get_mut(&token)
                .filter(|s| s.root == root && !s.reset);
            stream.ok_or(Status::NotFound)?.reset = true;
            Ok(())
        })
    })?;
    linker.func_wrap("env", "proxy_grpc_close", |call: Call<'_>, token: u32| {
        answer(call, "proxy_grpc_close", |c| {
            let root = c.data().acting_root();
            let stream = c
                .data_mut()
                .streams
                .get_mut(&token)
                .filter(|s| s.root == root && !s.reset);
            let stream = stream.ok_or(Status::NotFound)?;
            stream.half_closed = true;
            // With both halves closed the token is free.
            stream.reset = stream.closed;
            Ok(())
        })
    })?;
    linker.func_wrap(
        "env",
        "proxy_get_status",
        |call: Call<'_>, code_at: u32, text_at: u32, len_at: u32| {
            answer(call, "proxy_get_status", |c| {
                let (code, text) = c.data().call_status.clone();
                write_u32(c, code_at, code)?;
                give(c, text.as_bytes(), text_at, len_at)
            })
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_http_call",
        |call: Call<'_>,
         upstream: u32,
         upstream_len: u32,
         headers: u32,
         headers_len: u32,
         body: u32,
         body_len: u32,
         _trailers: u32,
         _trailers_len: u32,
         timeout: u32,
         token_at: u32| {
            answer(call, "proxy_http_call", |c| {
                let cluster = read_text(c, upstream, upstream_len)?;
                let headers = maps::decode(&read(c, headers, headers_len)?);
                let body = read(c, body, body_len)?;
                let state = c.data_mut();
                let named = |name: &[u8]| headers.iter().any(|(n, _)| n == name);
                let complete = named(b":path") && named(b":method") && named(b":authority");
                if !complete || !state.clusters.contains_key(&cluster) {
                    return Err(Status::BadArgument);
                }
                // The two low bits say that the token is an HTTP call's.
                state.last_call += 1;
                let token = state.last_call * 4;
                let timeout = (timeout > 0).then(|| Duration::from_millis(u64::from(timeout)));
                let root = state.acting_root();
                state.calls.insert(
                    token,
                    HttpCall {
                        token,
                        root,
                        cluster,
                        headers,
                        body,
                        timeout,
                    },
                );
                if let Some(timeout) = timeout {
                    state.schedule(
                        timeout,
                        Event::CallAnswer(token, crate::upstream::Answer::timeout()),
                    );
                }
                state.events.push_back(Event::Call(token));
                write_u32(c, token_at, token)
            })
        },
    )?;
    Ok(())
}

/// The part of `envoy.config.core.v3.GrpcService` that says which cluster is meant.
#[derive(Clone, PartialEq, Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy_grpc: Option<EnvoyGrpc>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    cluster_name: String,
}

/// A stream's upstream is a serialised `GrpcService`, or, if it is none, the name of a cluster.
fn known_cluster(state: &State, upstream: &[u8]) -> Result<(), Status> {
    let known = |name: &str| state.clusters.contains_key(name);
    match GrpcService::decode(upstream) {
        Ok(GrpcService {
            envoy_grpc: Some(grpc),
        }) if known(&grpc.cluster_name) => Ok(()),
        Ok(_) => Err(Status::InternalFailure),
        Err(_) if known(&String::from_utf8_lossy(upstream)) => Ok(()),
        Err(_) => Err(Status::ParseFailure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_upstream_is_a_cluster_or_a_serialised_service() {
        let mut state = State::default();
        state.clusters.insert("sluice".to_owned(), String::new());
        let service = |name: &str| {
            let envoy_grpc = Some(EnvoyGrpc {
                cluster_name: name.to_owned(),
            });
            GrpcService { envoy_grpc }.encode_to_vec()
        };
        assert_eq!(known_cluster(&state, b"sluice"), Ok(()));
        assert_eq!(known_cluster(&state, &service("sluice")), Ok(()));
        assert_eq!(known_cluster(&state, b"other"), Err(Status::ParseFailure));
        assert_eq!(
            known_cluster(&state, &service("other")),
            Err(Status::InternalFailure)
        );
    }
}
