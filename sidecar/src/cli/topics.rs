//! `sluice topics`

use std::io::Write;

use clap::{Args, Subcommand};

use super::{Environment, Failure, admin, block_on, target};
use crate::config::check_topic;
use crate::kafka::topics::{self, Creation, Topic};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print each topic and its number of partitions
    List(ListArguments),
    /// Create a topic
    Create(CreateArguments),
    /// Print a topic's partitions: leader, replicas, offsets
    Describe(DescribeArguments),
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    target: target::Arguments,
}

#[derive(Debug, Args)]
pub(super) struct CreateArguments {
    /// The topic's name
    name: String,
    /// Its partitions [default: as the brokers are configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// The replicas of each partition [default: as the brokers are configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    replication_factor: Option<i32>,
    #[command(flatten)]
    target: target::Arguments,
}

#[derive(Debug, Args)]
pub(super) struct DescribeArguments {
    /// The topic's name
    name: String,
    #[command(flatten)]
    target: target::Arguments,
}

pub(super) fn run(command: Command, environment: Environment) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => {
            let topics = topics::list(&arguments.target.resolve(environment)?.connection)?;
            let mut out = std::io::stdout().lock();
            for topic in topics {
                writeln!(out, "{} {}", topic.name, topic.partitions.len())?;
            }
            Ok(())
        }
        Command::Create(arguments) => create(&arguments, environment),
        Command::Describe(arguments) => {
            check_topic(&arguments.name).map_err(Failure::Other)?;
            let target = arguments.target.resolve(environment)?;
            describe(&topics::describe(&target.connection, &arguments.name)?)
        }
    }
}

/// The dev broker has no CreateTopics: the sidecar around it creates its topics.
fn create(arguments: &CreateArguments, environment: Environment) -> Result<(), Failure> {
    let name = &arguments.name;
    check_topic(name).map_err(Failure::Other)?;
    let target = arguments.target.resolve(environment)?;
    let done = match target.dev_broker {
        Some(_) if arguments.replication_factor.is_some_and(|n| n > 1) => {
            return Err(Failure::Other(
                "the dev broker is one broker: it has no replicas".to_owned(),
            ));
        }
        Some(listener) => block_on(admin::create_topic(&listener, name, arguments.partitions))??,
        None => block_on(topics::create(
            &target.connection,
            name,
            arguments.partitions,
            arguments.replication_factor,
        ))??,
    };
    let said = match done {
        Creation::Created => format!("created {name}"),
        Creation::Exists => existing(&topics::find(&target.connection, name)?, arguments)?,
    };
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}

/// What to say of a topic that is there already: a failure only where another one was asked for.
fn existing(topic: &Topic, arguments: &CreateArguments) -> Result<String, Failure> {
    let name = &topic.name;
    let partitions = topic.partitions.len();
    let replicas = topic.partitions.first().map_or(0, |one| one.replicas.len());
    let other = |asked: Option<i32>, found: usize| asked.filter(|asked| usize::try_from(*asked) != Ok(found));
    let plural = if partitions == 1 { "" } else { "s" };
    let exists = format!("{name} exists with {partitions} partition{plural}");
    if let Some(asked) = other(arguments.partitions, partitions) {
        return Err(Failure::Other(format!("topic {exists}, not {asked}")));
    }
    if let Some(asked) = other(arguments.replication_factor, replicas) {
        return Err(Failure::Other(format!(
            "topic {name} exists with replication factor {replicas}, not {asked}"
        )));
    }
    Ok(exists)
}

fn describe(topic: &Topic) -> Result<(), Failure> {
    let list = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {}", topic.name, topic.partitions.len())?;
    for partition in &topic.partitions {
        let leader = partition
            .leader
            .map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        let offsets = partition.offsets.map_or_else(
            || "unknown".to_owned(),
            |(first, next)| format!("{first}..{next}"),
        );
        writeln!(
            out,
            "{} leader={leader} replicas={} in-sync={} offsets={offsets}",
            partition.id,
            list(&partition.replicas),
            list(&partition.in_sync),
        )?;
    }
    Ok(())
}
