//! One netlink socket: a request out, its answers in.
//!
//! The kernel processes a request inside the `send` call (`netlink_unicast_kernel` in
//! `net/netlink/af_netlink.c`). So the answer is usually there at once, and the fast path uses no event
//! loop. This module does not use rust-netlink's connection, which logs and drops answers that it cannot
//! decode, hides errors that end a dump, and has an unbounded queue.

use std::io;

use nix::errno::Errno;
use rtnetlink::packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::runtime::Handle;

use crate::wire::{Fault, HEADER, end_of_answer, packets};

/// Room for one datagram, in bytes. `netlink_dump` fits a dump's datagrams to the reader's buffer, up
/// to this size, and one object alone is far smaller: a link without statistics and virtual functions
/// takes about one kilobyte.
const DATAGRAM: usize = 32 * 1024;

/// Longest request, in bytes. The length of an attribute has 16 bits (`struct nlattr`), and the library panics at a longer
/// one. A request within this limit cannot contain one.
const LONGEST: usize = u16::MAX as usize;

/// The answer to a request.
pub(crate) struct Answer<T> {
    pub(crate) items: Vec<T>,
    /// The table changed while it was dumped (`NLM_F_DUMP_INTR`): entries may be missing or double.
    pub(crate) interrupted: bool,
}

/// Reads one message of the given type; `None` for types that do not concern the request.
pub(crate) type Decode<T> = fn(u16, &[u8]) -> Result<Option<T>, DecodeError>;

/// A request in wire form, ready to be sent more than once.
pub(crate) struct Request {
    /// Or the length of a request that is too long.
    wire: Result<Vec<u8>, usize>,
    flags: u16,
}

impl Request {
    /// A request whose answer is one object. It does not ask for an acknowledgement, which would be a
    /// second datagram.
    pub(crate) fn get(message: RouteNetlinkMessage) -> Self {
        Self::new(message, 0)
    }

    /// A request for all objects that match.
    pub(crate) fn dump(message: RouteNetlinkMessage) -> Self {
        Self::new(message, NLM_F_DUMP)
    }

    /// A request that changes something; `flags` are `NLM_F_CREATE` and similar ones.
    pub(crate) fn change(message: RouteNetlinkMessage, flags: u16) -> Self {
        Self::new(message, NLM_F_ACK | flags)
    }

    /// A request for all objects that match, of another protocol than routing: the kind of the message and what follows the
    /// header.
    pub(crate) fn dump_of(kind: u16, payload: &[u8]) -> Self {
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut bytes = vec![0; HEADER];
        bytes.extend(payload);
        let length = bytes.len();
        let mut packet = NetlinkBuffer::new(&mut bytes);
        packet.set_message_type(kind);
        packet.set_flags(flags);
        let wire = match u32::try_from(length) {
            Ok(size) if length <= LONGEST => {
                packet.set_length(size);
                Ok(bytes)
            }
            _ => Err(length),
        };
        Self { wire, flags }
    }

    fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let length = message.buffer_len();
        let wire = if length > LONGEST {
            Err(length)
        } else {
            let mut bytes = vec![0; length];
            message.serialize(&mut bytes);
            Ok(bytes)
        };
        Self { wire, flags: NLM_F_REQUEST | flags }
    }

    /// What is sent.
    fn bytes(&self) -> Result<Vec<u8>, Fault> {
        self.wire.clone().map_err(|length| Fault::TooLong { length, limit: LONGEST })
    }
}

#[cfg(test)]
impl Request {
    /// A message of type NOOP that asks for no acknowledgement: the kernel accepts it and does not answer.
    pub(crate) fn unanswered() -> Self {
        let mut bytes = vec![0; HEADER];
        let mut packet = NetlinkBuffer::new(&mut bytes);
        packet.set_length(u32::try_from(HEADER).unwrap());
        packet.set_message_type(NLMSG_NOOP);
        packet.set_flags(NLM_F_REQUEST);
        Self { wire: Ok(bytes), flags: NLM_F_REQUEST }
    }
}

/// A socket.
pub(crate) struct Channel {
    socket: TokioSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Channel {
    /// Opens a route socket for requests in the calling thread's namespace.
    pub(crate) fn for_requests(runtime: &Handle) -> io::Result<Self> {
        Self::for_requests_of(NETLINK_ROUTE, runtime)
    }

    /// The same of another protocol.
    pub(crate) fn for_requests_of(protocol: isize, runtime: &Handle) -> io::Result<Self> {
        let channel = Self::open(protocol, runtime)?;
        let socket = channel.socket.socket_ref();
        socket.set_ext_ack(true)?;
        // Without this option an error repeats the whole request before its text.
        socket.set_cap_ack(true)?;
        // Without this option the kernel ignores filters that it does not understand, and dumps everything.
        socket.set_netlink_get_strict_chk(true)?;
        // Connected to the kernel, the socket accepts no answer from another process.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(channel)
    }

    /// Opens a socket that listens to `groups` (a bit mask) in the calling thread's namespace.
    /// `receive_buffer` is in bytes; the system's default if `None`.
    pub(crate) fn for_events(runtime: &Handle, groups: u32, receive_buffer: Option<i32>) -> io::Result<Self> {
        let mut channel = Self::open(NETLINK_ROUTE, runtime)?;
        let socket = channel.socket.socket_mut();
        if let Some(size) = receive_buffer {
            socket.set_rx_buf_sz(size)?;
        }
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(channel)
    }

    /// The thread may exist only to be in the right namespace, so the caller names the runtime whose event
    /// loop watches the socket.
    fn open(protocol: isize, runtime: &Handle) -> io::Result<Self> {
        let _entered = runtime.enter();
        Ok(Self { socket: TokioSocket::new(protocol)?, buffer: Vec::new(), sequence: 0 })
    }

    /// Sends a request and collects its answers.
    ///
    /// If the future is dropped half-way, the channel cannot be used again: the rest of the answer would make
    /// the next dump fail with EBUSY. The owner drops such a channel.
    pub(crate) async fn exchange<T>(
        &mut self,
        request: &Request,
        decode: Decode<T>,
    ) -> Result<Answer<T>, Fault> {
        let mut bytes = request.bytes()?;
        self.sequence = self.sequence.wrapping_add(1);
        NetlinkBuffer::new(&mut bytes).set_sequence_number(self.sequence);
        self.socket.socket_ref().send(&bytes, 0)?;

        let single = request.flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut answer = Answer { items: Vec::new(), interrupted: false };
        // The first message that cannot be read is the error, but the answer is read to its end.
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
        // The fast path reads the socket before it waits for the event loop.
        match self.try_receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.socket.recv(&mut self.buffer).await
            }
            other => other,
        }
    }

    /// Discards the datagrams that have arrived, at most `limit`. Returns whether the queue is empty.
    pub(crate) fn drain(&mut self, limit: usize) -> io::Result<bool> {
        for _ in 0..limit {
            match self.try_receive() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn try_receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.reserve_exact(DATAGRAM);
        loop {
            match self.socket.socket_ref().recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }

    /// The datagram read last.
    pub(crate) fn datagram(&self) -> &[u8] {
        &self.buffer
    }
}
