//! `sluice kafka-clusters`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Call, Environment, Failure, IfMatch, List, Whom, options, part, run, text_pair};

/// `sluice kafka-clusters`
#[derive(Debug, Args)]
pub(in super::super) struct KafkaClusters {
    #[command(flatten)]
    whom: Whom,
    #[command(subcommand)]
    command: OfClusters,
}

#[derive(Debug, Subcommand)]
enum OfClusters {
    /// List all clusters, a line each
    #[command(visible_alias = "ls")]
    List,
    /// Print a cluster, without its secrets
    Show {
        /// Its name
        name: String,
    },
    /// Make a cluster
    Create {
        /// Its name
        name: String,
        /// A property of librdkafka's; bootstrap.servers is required
        #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = text_pair, required = true)]
        properties: Vec<(String, Value)>,
    },
    /// Give a cluster other properties, in the place of all that it has
    Update {
        /// Its name
        name: String,
        /// A property of librdkafka's
        #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = text_pair, required = true)]
        properties: Vec<(String, Value)>,
        #[command(flatten)]
        of: IfMatch,
    },
    /// Delete a cluster
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: String,
        /// Also if subscriptions read from it: they stop
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        of: IfMatch,
    },
}

/// Carries out `sluice kafka-clusters`.
pub(in super::super) fn kafka_clusters(
    arguments: KafkaClusters,
    environment: Environment,
) -> Result<(), Failure> {
    use OfClusters as Of;
    let one = |name: &str| format!("/kafka-clusters/{}", part(name));
    let mut list: Option<List> = None;
    let call = match arguments.command {
        Of::List => {
            list = Some(("clusters", &["/name", "/properties/bootstrap.servers"]));
            Call::get("/kafka-clusters")
        }
        Of::Show { name } => Call::get(format!("{}?include_subscriptions=true", one(&name))),
        Of::Create { name, properties } => {
            let body = json!({"name": name, "properties": options(properties)});
            Call::post("/kafka-clusters").with(body)
        }
        Of::Update { name, properties, of } => {
            Call::patch(one(&name), &of).with(json!({"properties": options(properties)}))
        }
        Of::Delete { name, force, of } => Call::delete(format!("{}?force={force}", one(&name)), &of),
    };
    run(&arguments.whom, &call, list, environment)
}
