//! The root context: configuration, ticks, and the streams, which belong to it.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel, MapType};
use sluice_proto::STREAM_HEADER;

use super::host;
use super::http::Http;
use super::worker::{Shared, Worker};
use crate::config::FilterConfig;
use crate::pairs;

/// Makes the root context of that id.
pub(super) fn create(id: u32) -> Box<dyn RootContext> {
    let worker = Rc::new(RefCell::new(Worker::new(id)));
    Box::new(Root { worker })
}

struct Root {
    worker: Shared,
}

impl Root {
    /// Callbacks do not nest, so the worker is never in use when one begins.
    fn with(&self, event: impl FnOnce(&mut Worker)) {
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            event(&mut worker);
        }
    }
}

impl Context for Root {
    fn on_grpc_stream_initial_metadata(&mut self, token: u32, _: u32) {
        // A call that fails delivers initial metadata as well, without the sidecar's header.
        let raw = host::map(MapType::GrpcReceiveInitialMetadata).unwrap_or_default();
        let ours = pairs::parse(&raw)
            .iter()
            .any(|(name, _)| *name == STREAM_HEADER.as_bytes());
        if ours {
            self.with(|worker| worker.stream_opened(token));
        }
    }

    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        // A message that the host does not give is one that cannot be read.
        let message = host::buffer(BufferType::GrpcReceiveBuffer, size);
        let message = message.as_deref().unwrap_or(UNREADABLE);
        self.with(|worker| worker.stream_replied(token, message));
    }

    fn on_grpc_stream_close(&mut self, token: u32, _: u32) {
        self.with(|worker| worker.stream_closed(token));
    }
}

/// No protobuf message.
const UNREADABLE: &[u8] = &[0xff];

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let written = match size {
            0 => Some(Vec::new()),
            _ => host::buffer(BufferType::PluginConfiguration, size),
        };
        let Some(written) = written else {
            host::log(
                LogLevel::Error,
                "sluice: Envoy does not give the filter its configuration",
            );
            return false;
        };
        match FilterConfig::from_bytes(&written) {
            Ok(config) => {
                self.with(|worker| worker.configure(config));
                true
            }
            Err(problems) => {
                for problem in &problems {
                    host::log(LogLevel::Error, &format!("sluice: configuration: {problem}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.with(Worker::tick);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http::new(id, self.worker.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // The gauge is shared by all workers, and by those that come after a change of configuration.
        self.with(Worker::leave);
    }
}
