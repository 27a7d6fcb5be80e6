//! docs/API.md says what the code says.

use std::collections::BTreeSet;

use chat4all_api::Code;

const DOCUMENT: &str = include_str!("../../../docs/API.md");

#[test]
fn every_error_code_is_documented_and_every_documented_one_exists() {
    let (_, section) = DOCUMENT.split_once("## Errors").expect("the document has a section of errors");
    let section = section.split("\n## ").next().unwrap();
    let documented: BTreeSet<(u16, String)> = section
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (code, status) = (cells.next()?, cells.next()?);
            Some((status.parse().ok()?, code.trim_matches('`').to_owned()))
        })
        .collect();
    let existing: BTreeSet<_> = Code::ALL.iter().map(|code| (code.row().status, code.row().code.to_owned())).collect();
    assert_eq!(documented, existing);
}
