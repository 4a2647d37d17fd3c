//! The simulators' answers, held against the marketplaces' official API files: every state of an order, every fault.

mod amazon;
mod bol;
mod collecting;
mod ebay;
mod faults;
mod official;
mod sandbox;
