//! From the client library's error codes to error classes.

use rdkafka::types::RDKafkaErrorCode as Code;
use sluice_proto::v1::ErrorClass;

use super::record::Failure;

/// What the client knows about a record that failed (`rd_kafka_message_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It is certainly not in the log.
    Not,
    /// It was sent and may be in the log.
    Possibly,
    /// It is in the log.
    Persisted,
}

/// The failure of a record that the client reported with `code`.
pub(super) fn of_delivery(code: Code, status: Persistence) -> Failure {
    match (status, code) {
        // In the log and an error all the same: the acknowledgement cannot be given, nor can "not stored".
        (Persistence::Possibly | Persistence::Persisted, _)
        // A connection that is lost while it logs in again takes with it what was under way on it. The client calls that not
        // persisted, sent or not, as it does with every error that it does not list (`rd_kafka_err_action`).
        | (Persistence::Not, Code::Authentication) => {
            unknown(format!("no acknowledgement: {code}"))
        }
        (Persistence::Not, _) => not_stored(code),
    }
}

/// A record that may or may not be stored.
pub(crate) fn unknown(message: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(ErrorClass::OutcomeUnknown, message)
}

/// The failure of a record that is certainly not stored, with `code`.
pub(super) fn not_stored(code: Code) -> Failure {
    let class = class_of(code);
    Failure::new(class, format!("not stored: {code}"))
}

/// The class of an error that kept a record from being stored.
///
/// Codes that say something about the record, the topic or the principal have a class of their own. Every
/// other code is about the cluster or the way to it: trying again later can help.
pub(super) fn class_of(code: Code) -> ErrorClass {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            ErrorClass::TooLarge
        }

        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic => ErrorClass::UnknownTopic,

        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::DelegationTokenAuthorizationFailed => ErrorClass::NotAuthorised,

        Code::InvalidRecord
        | Code::InvalidMessage
        | Code::InvalidTimestamp
        | Code::InvalidRequiredAcks
        | Code::InvalidRequest
        | Code::InvalidConfig
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::PolicyViolation
        | Code::BadMessage
        | Code::BadCompression
        | Code::InvalidArgument
        | Code::KeySerialization
        | Code::ValueSerialization => ErrorClass::BrokerRejected,

        Code::QueueFull => ErrorClass::BufferFull,

        // The sidecar itself gave it up: it is shutting down or replacing the producer.
        Code::PurgeQueue => ErrorClass::SidecarUnavailable,

        // Appended, and perhaps nowhere else: never "not stored", whatever the client's status says.
        Code::NotEnoughReplicasAfterAppend | Code::PurgeInflight => ErrorClass::OutcomeUnknown,

        _ => ErrorClass::ClusterUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_in_the_log_is_never_called_not_stored() {
        for code in [
            Code::MessageTimedOut,
            Code::RequestTimedOut,
            Code::TopicAuthorizationFailed,
        ] {
            assert_eq!(
                of_delivery(code, Persistence::Possibly).class,
                ErrorClass::OutcomeUnknown
            );
            assert_eq!(
                of_delivery(code, Persistence::Persisted).class,
                ErrorClass::OutcomeUnknown
            );
        }
        let logging_in = of_delivery(Code::Authentication, Persistence::Not);
        assert_eq!(logging_in.class, ErrorClass::OutcomeUnknown);
        let after_append = of_delivery(Code::NotEnoughReplicasAfterAppend, Persistence::Not);
        assert_eq!(after_append.class, ErrorClass::OutcomeUnknown);
    }

    #[test]
    fn each_code_has_its_class() {
        let rows = [
            (Code::MessageSizeTooLarge, ErrorClass::TooLarge),
            (Code::UnknownTopicOrPartition, ErrorClass::UnknownTopic),
            (Code::UnknownPartition, ErrorClass::UnknownTopic),
            (Code::TopicAuthorizationFailed, ErrorClass::NotAuthorised),
            (Code::ClusterAuthorizationFailed, ErrorClass::NotAuthorised),
            (Code::InvalidRecord, ErrorClass::BrokerRejected),
            (Code::InvalidTimestamp, ErrorClass::BrokerRejected),
            (Code::QueueFull, ErrorClass::BufferFull),
            (Code::MessageTimedOut, ErrorClass::ClusterUnavailable),
            (Code::NotEnoughReplicas, ErrorClass::ClusterUnavailable),
            (Code::BrokerTransportFailure, ErrorClass::ClusterUnavailable),
            (Code::SaslAuthenticationFailed, ErrorClass::ClusterUnavailable),
            (Code::PurgeQueue, ErrorClass::SidecarUnavailable),
        ];
        for (code, class) in rows {
            assert_eq!(of_delivery(code, Persistence::Not).class, class, "{code:?}");
        }
    }
}
