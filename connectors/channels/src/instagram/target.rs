//! Whom an Instagram address may name.

use crate::Unfit;

/// A target is an Instagram-scoped id: the digits by which our account, and it alone, knows somebody.
pub(super) fn check(target: &str) -> Result<(), Unfit> {
    let is_id = (1..=DIGITS_MAX).contains(&target.len()) && target.bytes().all(|byte| byte.is_ascii_digit());
    let detail = "an Instagram target must be an Instagram-scoped id: digits, as a message from that person brought it";
    if is_id { Ok(()) } else { Err(Unfit::new("to", detail)) }
}

/// Far beyond any id seen.
const DIGITS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_digits() {
        for id in ["1", "17841400000000001", &"9".repeat(64)] {
            assert_eq!(check(id), Ok(()));
        }
        for other in ["", "ana", "@ana", "+17841400000000001", "1784 1", "１７８４", &"9".repeat(65)] {
            let unfit = check(other).unwrap_err();
            assert!(unfit.field == "to" && unfit.detail.contains("digits"), "{other}: {unfit}");
        }
    }
}
