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
    order::{Order, generate},
};

/// Shared by all handlers.
#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    pub(crate) control_token: Arc<str>,
}

pub(crate) struct State {
    pub(crate) accounts: Vec<Seller>,
    pub(crate) customers: BTreeMap<String, Inbox>,
    pub(crate) faults: Faults,
    pub(crate) amazon_rate: (f64, f64),
    tokens: HashMap<String, (usize, Timestamp)>,
    issued: u64,
}

/// An account and its orders, in the order of placing.
pub(crate) struct Seller {
    pub(crate) account: Account,
    pub(crate) orders: Vec<Order>,
    grown: Timestamp,
    /// Amazon's token bucket: tokens left, and when they were counted.
    pub(crate) bucket: (f64, Timestamp),
}

impl Shared {
    pub(crate) fn new(config: &Config, now: Timestamp) -> Self {
        let accounts =
            config.accounts.iter().map(|account| Seller::new(account, config.amazon_rate.1, now)).collect();
        let customers = config.customers.iter().map(|c| (c.name.clone(), Inbox::new(&c.secrets))).collect();
        let state = State {
            accounts,
            customers,
            faults: Faults::default(),
            amazon_rate: config.amazon_rate,
            tokens: HashMap::new(),
            issued: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), control_token: config.control_token.as_str().into() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A new access token for an account.
    pub(crate) fn issue_token(&mut self, account: usize, seconds: i64, now: Timestamp) -> String {
        self.issued += 1;
        let token = format!("access-{}-{}", self.issued, self.accounts[account].account.client_id);
        self.tokens.insert(token.clone(), (account, now + SignedDuration::from_secs(seconds)));
        token
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

    pub(crate) fn find_account(&self, marketplace: Marketplace, id: &str, secret: &str) -> Option<usize> {
        let matches = |seller: &Seller| {
            let account = &seller.account;
            account.marketplace == marketplace && account.client_id == id && account.client_secret == secret
        };
        self.accounts.iter().position(matches)
    }

    pub(crate) fn expire_tokens(&mut self) {
        self.tokens.clear();
    }
}

impl Seller {
    fn new(account: &Account, burst: f64, now: Timestamp) -> Self {
        let mut seller =
            Self { account: account.clone(), orders: Vec::new(), grown: now, bucket: (burst, now) };
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
        self.orders.iter_mut().enumerate().for_each(|(index, order)| order.age(now, index));
    }

    /// Takes one call from the token bucket.
    pub(crate) fn take_call(&mut self, (rate, burst): (f64, f64), now: Timestamp) -> bool {
        let passed = now.duration_since(self.bucket.1).as_secs_f64();
        let tokens = (self.bucket.0 + passed * rate).min(burst);
        let enough = tokens >= 1.0;
        self.bucket = (if enough { tokens - 1.0 } else { tokens }, now);
        enough
    }
}
