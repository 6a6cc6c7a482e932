//! What brokers answer the relay: read or refused, and the same however it is cut into pieces.

use sluice::kafka::relay_parsers as parsers;

/// The size of the pieces, and the stream.
pub(crate) fn broker_answer(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else {
        return;
    };
    parsers::answer(stream);
    let size = usize::from(*size);
    let whole = parsers::sift(stream, usize::MAX);
    assert_eq!(parsers::sift(stream, size), whole);
    assert_eq!(parsers::frames(stream, size), parsers::frames(stream, usize::MAX));
    if let Some((through, own)) = whole {
        let taken: usize = own.iter().map(|answer| answer.len() + 4).sum();
        assert!(through.len() + taken <= stream.len());
        // What passes has none of the relay's own answers in it any more.
        assert_eq!(parsers::sift(&through, size), Some((through, Vec::new())));
    }
}
