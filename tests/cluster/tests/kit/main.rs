//! Not of the product: what the other tests take for granted of the API, of the proxy that makes it fail, and of the rival.

mod contract;
mod proxy;
mod rival;
