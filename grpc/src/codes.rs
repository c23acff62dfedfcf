//! A set of status codes.

use std::fmt;

use tonic::Code;

/// Which status codes a policy is about: a bit for each of the 17.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Codes(u32);

impl Codes {
    pub(crate) fn contains(self, code: Code) -> bool {
        self.0 & bit(code) != 0
    }

    /// The code that gRPC calls so: `UNAVAILABLE`, in any case (gRFC A6).
    pub(crate) fn by_name(name: &str) -> Option<Code> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, code)| *code)
    }
}

impl FromIterator<Code> for Codes {
    fn from_iter<I: IntoIterator<Item = Code>>(codes: I) -> Self {
        Self(codes.into_iter().fold(0, |bits, code| bits | bit(code)))
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = NAMES.iter().map(|(_, code)| code).filter(|code| self.contains(**code));
        f.debug_set().entries(within).finish()
    }
}

fn bit(code: Code) -> u32 {
    1 << code as u32
}

/// The names of `google.rpc.Code`.
const NAMES: [(&str, Code); 17] = [
    ("OK", Code::Ok),
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_own_bit_and_name() {
        for number in 0..17 {
            let code = Code::from_i32(number);
            let only: Codes = [code].into_iter().collect();
            for other in 0..17 {
                assert_eq!(only.contains(Code::from_i32(other)), other == number);
            }
            let (name, _) = NAMES[number as usize];
            assert_eq!(Codes::by_name(name), Some(code));
            assert_eq!(Codes::by_name(&name.to_lowercase()), Some(code));
            assert_eq!(format!("{only:?}"), format!("{{{code:?}}}"));
        }
        assert_eq!(Codes::by_name("Unavailable"), Some(Code::Unavailable));
        assert_eq!(Codes::by_name("DataLoss"), None);
    }
}
