//! Pure decisions of a connector: lanes, attempts, back-off, watermark.
