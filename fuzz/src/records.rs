//! The contract's request.

use prost::Message;
use sluice_proto::v1::ProduceRequest;

/// What is decoded is encoded again to what decodes to the same.
pub(crate) fn produce_request(data: &[u8]) {
    let Ok(request) = ProduceRequest::decode(data) else {
        return;
    };
    let encoded = request.encode_to_vec();
    assert_eq!(encoded.len(), request.encoded_len());
    assert_eq!(ProduceRequest::decode(&encoded[..]).as_ref(), Ok(&request));
    // Encodings that follow one another are one request with all their records, which the stream relies on.
    let twice = ProduceRequest::decode(&[data, &encoded[..]].concat()[..]).expect("one after another");
    assert_eq!(
        twice.records,
        [&request.records[..], &request.records[..]].concat()
    );
}
