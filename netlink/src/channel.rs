//! One netlink socket: a request out, its answers in.
//!
//! The kernel works a request off inside the `send` call (`netlink_unicast_kernel` in
//! `net/netlink/af_netlink.c`), so an answer is usually waiting before we ask for it and the fast path
//! touches no event loop. rust-netlink's own connection is not used: it logs and drops answers it
//! cannot decode, hides errors that end a dump, and queues without bound.

use std::io;
use std::iter;

use rtnetlink::packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator, parse_string,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::runtime::Handle;

/// The kernel builds no dump datagram larger than this (`NLMSG_GOODSIZE` up to 32 KiB, fitted to the
/// reader's buffer), and a single link without its virtual functions stays far below it.
const DATAGRAM: usize = 32 * 1024;
/// Attribute of an extended acknowledgement that holds the text (`NLMSGERR_ATTR_MSG`).
const EXTACK_MESSAGE: u16 = 1;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Why an exchange gave no result; the caller adds what was attempted.
#[derive(Debug)]
pub(crate) enum Fault {
    Refused { errno: i32, message: Option<String> },
    Undecodable(String),
    Io(io::Error),
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

/// What a request brought back.
pub(crate) struct Answer<T> {
    pub(crate) items: Vec<T>,
    /// The table changed while it was dumped (`NLM_F_DUMP_INTR`): entries may be missing or double.
    pub(crate) interrupted: bool,
}

/// Reads one message of the given type; `None` for types that do not concern the request.
pub(crate) type Decode<T> = fn(u16, &[u8]) -> Result<Option<T>, DecodeError>;

/// A request in wire form, ready to be sent more than once.
pub(crate) struct Request {
    bytes: Vec<u8>,
    flags: u16,
}

impl Request {
    /// A request whose answer is one object. The kernel is not asked for an acknowledgement, which
    /// would be a second datagram.
    pub(crate) fn get(message: RouteNetlinkMessage) -> Self {
        Self::new(message, 0)
    }

    /// A request for all objects that match.
    pub(crate) fn dump(message: RouteNetlinkMessage) -> Self {
        Self::new(message, NLM_F_DUMP)
    }

    /// A request that changes something, with `NLM_F_CREATE` and its kin in `flags`.
    pub(crate) fn change(message: RouteNetlinkMessage, flags: u16) -> Self {
        Self::new(message, NLM_F_ACK | flags)
    }

    fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Self { bytes, flags: NLM_F_REQUEST | flags }
    }
}

#[cfg(test)]
impl Request {
    /// A message of type NOOP without a wish for an acknowledgement: the kernel takes it and stays
    /// silent.
    pub(crate) fn unanswered() -> Self {
        let mut bytes = vec![0; HEADER];
        let mut packet = NetlinkBuffer::new(&mut bytes);
        packet.set_length(16);
        packet.set_message_type(NLMSG_NOOP);
        packet.set_flags(NLM_F_REQUEST);
        Self { bytes, flags: NLM_F_REQUEST }
    }
}

/// A route socket.
pub(crate) struct Channel {
    socket: TokioSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Channel {
    /// Opens a socket for requests in the calling thread's namespace.
    pub(crate) fn for_requests(runtime: &Handle) -> io::Result<Self> {
        let channel = Self::open(runtime)?;
        let socket = channel.socket.socket_ref();
        socket.set_ext_ack(true)?;
        // Without this an error repeats the whole request in front of its text.
        socket.set_cap_ack(true)?;
        // Else the kernel ignores filters it does not understand and dumps everything.
        socket.set_netlink_get_strict_chk(true)?;
        // Once connected to the kernel, no process can slip us an answer.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(channel)
    }

    /// Opens a socket that listens to `groups` (a bit mask) in the calling thread's namespace.
    /// `receive_buffer` is in bytes; the system's default if `None`.
    pub(crate) fn for_events(runtime: &Handle, groups: u32, receive_buffer: Option<i32>) -> io::Result<Self> {
        let mut channel = Self::open(runtime)?;
        let socket = channel.socket.socket_mut();
        if let Some(size) = receive_buffer {
            socket.set_rx_buf_sz(size)?;
        }
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(channel)
    }

    /// The thread may be one that exists only to be in the right namespace, so the runtime whose
    /// event loop shall watch the socket is stated.
    fn open(runtime: &Handle) -> io::Result<Self> {
        let _entered = runtime.enter();
        Ok(Self { socket: TokioSocket::new(NETLINK_ROUTE)?, buffer: Vec::new(), sequence: 0 })
    }

    /// Sends a request and collects its answers.
    ///
    /// Not to be continued after it was dropped half way: what is left of the answer would make the
    /// next dump fail with EBUSY. The owner throws such a channel away.
    pub(crate) async fn exchange<T>(
        &mut self,
        request: &Request,
        decode: Decode<T>,
    ) -> Result<Answer<T>, Fault> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = request.bytes.clone();
        NetlinkBuffer::new(&mut bytes).set_sequence_number(self.sequence);
        self.socket.socket_ref().send(&bytes, 0)?;

        let single = request.flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut answer = Answer { items: Vec::new(), interrupted: false };
        // The first thing we fail to read decides, but the answer is read to its end all the same.
        let mut unreadable = None;
        loop {
            self.receive().await?;
            for packet in packets(&self.buffer) {
                let packet = packet?;
                if packet.sequence_number() != self.sequence {
                    continue;
                }
                answer.interrupted |= packet.flags() & NLM_F_DUMP_INTR != 0;
                match packet.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => {
                        // A dump's failure may come in its last message instead of an error message.
                        end_of_answer(packet.message_type(), packet.flags(), packet.payload())?;
                        return unreadable.map_or(Ok(answer), Err);
                    }
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(Fault::Undecodable("the kernel reports lost data".into())),
                    kind => {
                        match decode(kind, packet.payload()) {
                            Ok(item) => answer.items.extend(item),
                            Err(error) => unreadable = unreadable.or(Some(error.into())),
                        }
                        if single && packet.flags() & NLM_F_MULTIPART == 0 {
                            return unreadable.map_or(Ok(answer), Err);
                        }
                    }
                }
            }
        }
    }

    /// Waits for the next datagram and reads it into the buffer. Dropping the future loses nothing.
    pub(crate) async fn receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.reserve_exact(DATAGRAM);
        loop {
            // The fast path asks the socket before it asks the event loop.
            match self.socket.socket_ref().recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.socket.recv(&mut self.buffer).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The datagram read last.
    pub(crate) fn datagram(&self) -> &[u8] {
        &self.buffer
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
fn end_of_answer(kind: u16, flags: u16, payload: &[u8]) -> Result<(), Fault> {
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

/// The text of an extended acknowledgement. A malformed one must not hide the error it comes with.
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
        // Without the flag the bytes behind the header are no attributes.
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
