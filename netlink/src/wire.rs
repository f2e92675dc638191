//! The layout of answers: messages in a datagram, errors in a message.

use std::io;
use std::iter;

use rtnetlink::packet_core::{
    DecodeError, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
    parse_string,
};

/// Attribute of an extended acknowledgement that holds the text (`NLMSGERR_ATTR_MSG`).
const EXTACK_MESSAGE: u16 = 1;
/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// Why an exchange gave no result; the caller adds the attempt.
#[derive(Debug)]
pub(crate) enum Fault {
    Refused {
        errno: i32,
        message: Option<String>,
    },
    Undecodable(String),
    Io(io::Error),
    /// Bytes; nothing was sent.
    TooLong {
        length: usize,
        limit: usize,
    },
}

impl From<io::Error> for Fault {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Undecodable(error.to_string())
    }
}

/// Splits a datagram into its messages; ends after the first malformed one.
pub(crate) fn packets(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>, DecodeError>> {
    iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let packet = NetlinkBuffer::new_checked(datagram);
        let length = packet.as_ref().map_or(usize::MAX, |packet| packet.length() as usize);
        let aligned = length.checked_next_multiple_of(4).unwrap_or(usize::MAX);
        datagram = datagram.get(aligned..).unwrap_or_default();
        Some(packet)
    })
}

/// Reads an error or end-of-dump message: `Ok` for success.
pub(crate) fn end_of_answer(kind: u16, flags: u16, payload: &[u8]) -> Result<(), Fault> {
    let Some((code, mut rest)) = payload.split_first_chunk::<4>() else {
        // The kernel may end a dump without a status.
        return Ok(());
    };
    let code = i32::from_ne_bytes(*code);
    if code == 0 || (kind == NLMSG_DONE && code > 0) {
        return Ok(());
    }
    if kind == NLMSG_ERROR {
        // An error repeats the request's header, and the request itself unless that was capped.
        let echoed = rest.first_chunk::<4>().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
        let skip = if flags & NLM_F_CAPPED != 0 { HEADER } else { echoed.next_multiple_of(4) };
        rest = rest.get(skip..).unwrap_or_default();
    }
    let message = if flags & NLM_F_ACK_TLVS != 0 { extack_message(rest) } else { None };
    Err(Fault::Refused { errno: code.wrapping_neg(), message })
}

/// The text of an extended acknowledgement. A malformed text must not hide its error.
fn extack_message(attributes: &[u8]) -> Option<String> {
    let attribute = NlasIterator::new(attributes).flatten().find(|nla| nla.kind() == EXTACK_MESSAGE)?;
    parse_string(attribute.value()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn refusal(result: Result<(), Fault>) -> (i32, Option<String>) {
        match result {
            Err(Fault::Refused { errno, message }) => (errno, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn extack_text_is_found_behind_a_capped_and_an_echoed_request() {
        let text = attribute(EXTACK_MESSAGE, b"8021q: VLAN device already exists\0");
        let offset = attribute(2, &40_u32.to_ne_bytes());
        let mut header = 22_u32.to_ne_bytes().to_vec();
        header.resize(HEADER, 0);

        let capped = [&(-17_i32).to_ne_bytes()[..], &header, &offset, &text].concat();
        let echoed = [&(-17_i32).to_ne_bytes()[..], &header, &[0xee; 8], &offset, &text].concat();
        for (flags, payload) in [(NLM_F_ACK_TLVS | NLM_F_CAPPED, &capped), (NLM_F_ACK_TLVS, &echoed)] {
            let (errno, message) = refusal(end_of_answer(NLMSG_ERROR, flags, payload));
            assert_eq!(errno, 17);
            assert_eq!(message.as_deref(), Some("8021q: VLAN device already exists"));
        }
        // Without the flag the bytes behind the header are not attributes.
        assert_eq!(refusal(end_of_answer(NLMSG_ERROR, NLM_F_CAPPED, &capped)), (17, None));
    }

    #[test]
    fn a_dump_can_end_in_an_error() {
        let text = attribute(EXTACK_MESSAGE, b"ipv4: FIB table does not exist\0");
        let payload = [&(-2_i32).to_ne_bytes()[..], &text].concat();
        let (errno, message) = refusal(end_of_answer(NLMSG_DONE, NLM_F_ACK_TLVS, &payload));
        assert_eq!((errno, message.as_deref()), (2, Some("ipv4: FIB table does not exist")));
        end_of_answer(NLMSG_DONE, 0, &0_i32.to_ne_bytes()).unwrap();
        end_of_answer(NLMSG_DONE, 0, &[]).unwrap();
    }

    #[test]
    fn truncated_attributes_do_not_hide_the_errno() {
        for length in 0..40 {
            let mut payload = (-95_i32).to_ne_bytes().to_vec();
            payload.resize(4 + length, 0xff);
            assert_eq!(refusal(end_of_answer(NLMSG_ERROR, NLM_F_ACK_TLVS, &payload)).0, 95, "{length}");
        }
    }

    #[test]
    fn a_malformed_length_ends_the_datagram_with_an_error() {
        let mut datagram = vec![0; HEADER];
        NetlinkBuffer::new(&mut datagram).set_length(16);
        datagram.extend([9, 0, 0, 0]);
        let split: Vec<_> = packets(&datagram).map(|packet| packet.is_ok()).collect();
        assert_eq!(split, [true, false]);
    }
}
