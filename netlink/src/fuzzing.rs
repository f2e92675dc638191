//! The properties that a fuzzer checks with a datagram of the kernel. Not an interface for programs.

use rtnetlink::packet_core::{Emitable, NLMSG_DONE, NLMSG_ERROR};

use crate::events::Event;
use crate::wire::{Fault, HEADER, end_of_answer, packets};
use crate::{Address, Link, Route, port_vlan, route_request};

/// Parses a datagram as the answer to each type of request and as an event. Checks that no message is read beyond its end or
/// twice.
///
/// # Panics
/// If that does not hold.
pub fn datagram(bytes: &[u8]) {
    let mut messages = 0;
    for packet in packets(bytes) {
        messages += 1;
        // A malformed message ends the datagram; the messages before it count.
        let Ok(packet) = packet else { break };
        let (kind, payload) = (packet.message_type(), packet.payload());
        assert!(payload.len() + HEADER <= bytes.len(), "a payload is longer than its datagram");
        if matches!(kind, NLMSG_ERROR | NLMSG_DONE) {
            if let Err(Fault::Refused { errno, message }) = end_of_answer(kind, packet.flags(), payload) {
                assert_ne!(errno, 0, "success is not a refusal: {message:?}");
            }
            continue;
        }
        // Every request reads the message: an answer matches its request only by number.
        drop(Link::from_message(kind, payload));
        let link = Link::without_options(kind, payload);
        let address = Address::from_message(kind, payload);
        let route = Route::from_message(kind, payload);
        let event = Event::decode(kind, payload);
        drop(port_vlan::decode(kind, payload));
        match event {
            Ok(Some(Event::Link(told))) => assert_eq!(link.ok().flatten(), Some(told)),
            Ok(Some(Event::Address(told))) => assert_eq!(address.ok().flatten(), Some(told)),
            Ok(Some(Event::Route(told))) => {
                for hop in &told.next_hops {
                    assert!((1..=256).contains(&hop.weight), "{told:?}");
                }
                sent_again(&told);
                assert_eq!(route.ok().flatten(), Some(told));
            }
            _ => {}
        }
    }
    assert!(messages <= bytes.len() / HEADER + 1, "{messages} messages in {} bytes", bytes.len());
}

/// A removed route is restored as it was read.
fn sent_again(told: &Route) {
    let Ok(message) = route_request::message(told, String::new) else { return };
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    let again = Route::decode(&bytes).expect("what is sent can be read");
    assert_eq!(again.destination, told.destination.trunc());
    assert_eq!((again.table, again.priority, again.kind), (told.table, told.priority, told.kind));
    assert_eq!((again.mtu, again.advmss, again.source), (told.mtu, told.advmss, told.source));
    if told.next_hops.len() != 1 {
        assert_eq!(again.next_hops, told.next_hops);
    }
}
