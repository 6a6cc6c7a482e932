//! Where there is no filter, nothing looks like a success.

use std::time::Duration;

use serde_json::json;
use sluice_e2e::envoy::{Config, Envoy, forward, produce};
use sluice_e2e::scenario::{Scenario, scenario};
use sluice_e2e::{Result, ensure, parts, wait};
use wasm_encoder::{
    CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};

fn config(s: &Scenario) -> Config {
    let stream = s.dir().join("none.sock");
    let mut config = Config::new(stream.strip_prefix(parts::root()).unwrap_or(&stream), 1);
    config.routes = vec![
        produce("/orders", json!({"topic": "orders"})),
        forward("/app", json!({}), "gone"),
    ];
    config.upstreams = vec![("gone".to_owned(), 1)];
    config
}

#[test]
fn a_filter_that_is_not_there_is_a_503_in_our_shape() -> Result<()> {
    scenario("closed-missing", async |s| {
        // A filter chain without ours, as a mistaken edit would leave it.
        let mut config = config(s);
        config.without_filter = true;
        let envoy = Envoy::start(s.dir(), &config).await?;
        for client in [envoy.h1(), envoy.h2()] {
            let reply = client.post("/orders", "application/json", "{}").await?;
            ensure!(
                reply
                    .expect_error(503, "filter_unavailable")?
                    .header("retry-after")
                    == "1"
            );
            // An upstream's failure is told apart.
            client
                .post("/app", "", "x")
                .await?
                .expect_error(503, "upstream_unavailable")?;
        }
        Ok(())
    })
}

#[test]
fn a_filter_that_does_not_load_lets_nothing_through() -> Result<()> {
    scenario("closed-broken", async |s| {
        let mut config = config(s);
        let broken = s.dir().join("broken.wasm");
        std::fs::write(&broken, b"\0asm\x01\0\0\0")?;
        config.wasm = Some(broken);
        // Envoy takes no listener with it, so nobody listens; or it serves, and refuses.
        match Envoy::start(s.dir(), &config).await {
            Err(_) => Ok(()),
            Ok(envoy) => {
                let reply = envoy.h1().post("/orders", "", "x").await?;
                ensure!(reply.status >= 500, "{}", reply.status);
                Ok(())
            }
        }
    })
}

/// A filter that lets requests pass, and traps at the second that an instance of it sees.
fn crashing() -> Vec<u8> {
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    let mut exports = ExportSection::new();
    let mut export = |name: &str, parameters: usize, answer: Option<i32>, traps: bool| {
        let index = types.len();
        let results = answer.map(|_| ValType::I32);
        types.ty().function(vec![ValType::I32; parameters], results);
        functions.function(index);
        exports.export(name, ExportKind::Func, index);
        let mut function = Function::new([]);
        let mut body = function.instructions();
        if traps {
            body.global_get(0).i32_const(1).i32_add().global_set(0);
            body.global_get(0).i32_const(2).i32_eq();
            body.if_(wasm_encoder::BlockType::Empty).unreachable().end();
        }
        if let Some(answer) = answer {
            body.i32_const(answer);
        }
        body.end();
        code.function(&function);
    };
    export("_initialize", 0, None, false);
    export("proxy_abi_version_0_2_1", 0, None, false);
    export("proxy_on_memory_allocate", 1, Some(0), false);
    export("proxy_on_context_create", 2, None, false);
    export("proxy_on_vm_start", 2, Some(1), false);
    export("proxy_on_configure", 2, Some(1), false);
    export("proxy_on_request_headers", 3, Some(0), true);
    let mut memory = MemorySection::new();
    memory.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export("memory", ExportKind::Memory, 0);
    let mut globals = GlobalSection::new();
    let count = GlobalType {
        val_type: ValType::I32,
        mutable: true,
        shared: false,
    };
    globals.global(count, &ConstExpr::i32_const(0));
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memory);
    module.section(&globals).section(&exports).section(&code);
    module.finish()
}

#[test]
fn a_filter_that_crashes_claims_nothing_and_is_loaded_again() -> Result<()> {
    scenario("closed-crash", async |s| {
        let mut config = config(s);
        let path = s.dir().join("crashing.wasm");
        std::fs::write(&path, crashing())?;
        config.wasm = Some(path);
        let envoy = Envoy::start(s.dir(), &config).await?;
        let http = envoy.h1();
        let passed = async || -> Result<()> {
            let reply = http.post("/orders", "", "x").await?;
            reply.expect_error(503, "filter_unavailable").map(|_| ())
        };
        for _ in 0..2 {
            wait::until("the filter is there", Duration::from_secs(30), passed).await?;
            let crashed = http.post("/orders", "", "x").await?;
            crashed.expect_error(504, "outcome_unknown")?;
        }
        Ok(())
    })
}

#[test]
fn an_upstream_that_does_not_answer_is_told_apart() -> Result<()> {
    scenario("closed-slow", async |s| {
        // It takes connections, and no more.
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let mut config = config(s);
        let mut slow = forward("/slow", json!({}), "silent");
        slow["route"]["timeout"] = json!("0.2s");
        config.routes.push(slow);
        config
            .upstreams
            .push(("silent".to_owned(), silent.local_addr()?.port()));
        let envoy = Envoy::start(s.dir(), &config).await?;
        for client in [envoy.h1(), envoy.h2()] {
            client
                .post("/slow", "", "x")
                .await?
                .expect_error(504, "upstream_timeout")?;
        }
        Ok(())
    })
}

#[test]
fn envoy_accepts_what_is_shipped() -> Result<()> {
    Envoy::validate(&parts::root().join("envoy.yaml"))
}
