//! Generates the messages and the service from `sluice/v1/records.proto`, without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=sluice/v1/records.proto");
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let files = protox::compile(["sluice/v1/records.proto"], ["."])?;
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        // A record's value is handed from the socket to the Kafka client without a copy.
        .bytes(".sluice.v1.Record.value")
        .bytes(".sluice.v1.Record.key")
        .bytes(".sluice.v1.Idempotency")
        .bytes(".sluice.v1.Template")
        .bytes(".sluice.v1.Answer.body")
        // Most fates have none.
        .boxed(".sluice.v1.Fate.answer")
        .compile_fds(files)?;
    Ok(())
}
