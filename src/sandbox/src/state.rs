//! Everything that the sandbox remembers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    Account, Config, Marketplace,
    customer::Inbox,
    faults::Faults,
    limits::{Calls, Rates},
    notices::Notices,
    order::{Order, generate},
};

/// Shared by all handlers.
#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    pub(crate) control_token: Arc<str>,
    pub(crate) notices: Arc<Notices>,
}

pub(crate) struct State {
    pub(crate) accounts: Vec<Seller>,
    pub(crate) customers: BTreeMap<String, Inbox>,
    pub(crate) faults: Faults,
    pub(crate) rates: Rates,
    tokens: HashMap<String, (usize, Timestamp)>,
    /// Tokens of eBay applications, which belong to no seller.
    applications: HashMap<String, Timestamp>,
    issued: u64,
}

/// An account and its orders, in the order of placing.
pub(crate) struct Seller {
    pub(crate) account: Account,
    pub(crate) orders: Vec<Order>,
    grown: Timestamp,
    pub(crate) calls: Calls,
}

impl Shared {
    pub(crate) fn new(config: &Config, now: Timestamp) -> Self {
        let accounts = config.accounts.iter().map(|account| Seller::new(account, now)).collect();
        let customers = config.customers.iter().map(|c| (c.name.clone(), Inbox::new(&c.secrets))).collect();
        let state = State {
            accounts,
            customers,
            faults: Faults::default(),
            rates: Rates::new(config.amazon_rate),
            tokens: HashMap::new(),
            applications: HashMap::new(),
            issued: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            control_token: config.control_token.as_str().into(),
            notices: Arc::new(Notices::new()),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn open_account(&mut self, account: &Account, now: Timestamp) {
        self.accounts.push(Seller::new(account, now));
    }

    /// A new access token for an account.
    pub(crate) fn issue_token(&mut self, account: usize, seconds: i64, now: Timestamp) -> String {
        self.issued += 1;
        let token = format!("access-{}-{}", self.issued, self.accounts[account].account.client_id);
        self.tokens.insert(token.clone(), (account, now + SignedDuration::from_secs(seconds)));
        token
    }

    /// A new token of an eBay application.
    pub(crate) fn issue_application_token(&mut self, seconds: i64, now: Timestamp) -> String {
        self.issued += 1;
        let token = format!("application-{}", self.issued);
        self.applications.insert(token.clone(), now + SignedDuration::from_secs(seconds));
        token
    }

    /// Whether that is an application's token that is still good.
    pub(crate) fn is_application(&self, token: &str, now: Timestamp) -> bool {
        self.applications.get(token).is_some_and(|expires| now < *expires)
    }

    /// The account of a token that is still good, its orders grown up to now.
    pub(crate) fn by_token(
        &mut self,
        token: &str,
        marketplace: Marketplace,
        now: Timestamp,
    ) -> Option<&mut Seller> {
        let (index, expires) = *self.tokens.get(token)?;
        let seller = &mut self.accounts[index];
        if now >= expires || seller.account.marketplace != marketplace {
            return None;
        }
        seller.grow(now);
        Some(seller)
    }

    /// Whose token that is, good or not.
    pub(crate) fn account_of(&self, token: &str) -> Option<usize> {
        self.tokens.get(token).map(|(account, _)| *account)
    }

    pub(crate) fn find_account(&self, marketplace: Marketplace, id: &str, secret: &str) -> Option<usize> {
        let matches = |seller: &Seller| {
            let account = &seller.account;
            account.marketplace == marketplace && account.client_id == id && account.client_secret == secret
        };
        self.accounts.iter().position(matches)
    }

    pub(crate) fn expire_tokens(&mut self) {
        self.tokens.clear();
        self.applications.clear();
    }
}

impl Seller {
    fn new(account: &Account, now: Timestamp) -> Self {
        let mut seller =
            Self { account: account.clone(), orders: Vec::new(), grown: now, calls: Calls::default() };
        for index in 0..account.initial_orders {
            let ago = SignedDuration::from_mins(i64::from(account.initial_orders - index));
            seller.add(now - ago);
        }
        seller
    }

    pub(crate) fn add(&mut self, placed: Timestamp) -> &mut Order {
        let index = self.orders.len();
        self.orders.push(generate(self.account.marketplace, self.account.seed, index as u64, placed));
        &mut self.orders[index]
    }

    /// Adds and ages orders as time went by since the last look.
    pub(crate) fn grow(&mut self, now: Timestamp) {
        let Ok(every) = i64::try_from(self.account.growth_seconds) else { return };
        if every == 0 {
            return;
        }
        while self.grown + SignedDuration::from_secs(every) <= now {
            self.grown += SignedDuration::from_secs(every);
            self.add(self.grown);
        }
        self.orders.iter_mut().for_each(|order| order.age(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seller(start: Timestamp) -> Seller {
        let account = Account {
            marketplace: Marketplace::Bol,
            client_id: "c".to_owned(),
            client_secret: "s".to_owned(),
            refresh_token: String::new(),
            seed: 5,
            initial_orders: 10,
            growth_seconds: 3,
        };
        Seller::new(&account, start)
    }

    /// The seller after looking at the times.
    fn grown(start: Timestamp, looks: &[i64]) -> Seller {
        let mut seller = seller(start);
        for at in looks {
            seller.grow(start + SignedDuration::from_secs(*at));
        }
        seller
    }

    #[test]
    fn growth_depends_on_the_seed_and_the_time_and_not_on_who_looks_when() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let often: Vec<_> = (0..=600).collect();
        let (once, often) = (grown(start, &[600]), grown(start, &often));
        assert_eq!(format!("{:?}", once.orders), format!("{:?}", often.orders));
        assert_eq!(once.orders.len(), 210);
        for state in ["New", "PartiallyShipped", "Shipped", "Cancelled", "Refunded"] {
            let seen = once.orders.iter().filter(|order| format!("{:?}", order.state) == state).count();
            assert!(seen > 0, "no order is {state}");
        }
        assert!(once.orders.iter().all(|order| order.updated <= start + SignedDuration::from_secs(600)));
    }

    #[test]
    fn what_the_control_api_decides_stays() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut seller = seller(start);
        seller.orders[0].decide(crate::order::State::Cancelled, start);
        seller.grow(start + SignedDuration::from_hours(1));
        assert_eq!(seller.orders[0].updated, start);
    }
}
