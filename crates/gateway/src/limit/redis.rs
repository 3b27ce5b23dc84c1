//! Limits that gateways keep together in Redis.
//!
//! Each bucket is one key, `paramedic:bucket:<what>:<id>`, with the time at which the bucket would be full again and the
//! count that was meant, in one value. A script reads and writes all buckets of a call at once, by Redis' own clock, so
//! the clocks of the gateways need not agree. A key is gone soon after its bucket is full. One server is meant, not a cluster.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd};

use super::shared::{Ask, BoxFuture, Shared, SharedFault, Taken};
use super::{Settings, What};

/// The key of a bucket begins with it.
pub const KEY_PREFIX: &str = "paramedic:bucket:";
/// Connecting is not on any call's way, so it may take longer than a question.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// No bucket's debt is kept longer.
const KEEP_MS_MAX: u64 = 86_400_000;

/// A level that is not full is a time at which it will be; so one number is all that is kept, and refilling is nothing to
/// do. As in the local bucket, what is larger than a burst goes on when the bucket is full, and leaves a debt.
const SCRIPT: &str = r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local least, wait_max, keep_max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local worst, which, full = 0, 0, {}
for i = 1, #KEYS do
  local count, cost = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local each = 60000000 / count
  local burst = math.max(least, each)
  local missing = 0
  local kept = redis.call('GET', KEYS[i])
  if kept then
    local at, meant = string.match(kept, '^(%d+) (%d+)$')
    if at then
      missing = math.max(0, tonumber(at) - now)
      if tonumber(meant) ~= count then
        local each_then = 60000000 / tonumber(meant)
        local level = (math.max(least, each_then) - missing) / each_then
        missing = math.max(0, burst - level * each)
      end
    end
  end
  if cost > 0 then
    local wait = missing + math.min(cost * each, burst) - burst
    if wait > worst then worst, which = wait, i end
  end
  full[i] = now + missing + cost * each
end
if worst > wait_max then return {which, math.ceil(worst)} end
for i = 1, #KEYS do
  if full[i] > now then
    local keep = math.min(math.ceil((full[i] - now) / 1000) + 1000, keep_max)
    redis.call('SET', KEYS[i], string.format('%.0f %s', full[i], ARGV[2 * i + 2]), 'PX', keep)
  else
    redis.call('DEL', KEYS[i])
  end
end
return {0, math.ceil(worst)}
";

/// A connection, and what Redis calls the script.
#[derive(Clone)]
struct Link {
    connection: MultiplexedConnection,
    script: Arc<str>,
    /// Counts up, so that the failure of an old connection does not end a new one.
    number: u64,
}

#[derive(Default)]
struct Links {
    link: Option<Link>,
    is_connecting: bool,
    number: u64,
}

/// Redis as the store of shared limits.
#[derive(Clone)]
pub struct RedisStore {
    client: Client,
    links: Arc<Mutex<Links>>,
    burst: Duration,
    timeout: Duration,
}

impl fmt::Debug for RedisStore {
    /// The address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisStore")
    }
}

impl RedisStore {
    /// `url` such as `redis://127.0.0.1:6379/0`. Connects when it is asked for the first time, and again after a failure.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(url: &str, settings: &Settings) -> Result<Self, SharedFault> {
        // The library's reason may repeat parts of the address.
        let client = Client::open(url).map_err(|_| SharedFault("its address is not like redis://host:6379/0".to_owned()))?;
        let burst = Duration::from_millis(settings.burst_ms);
        let timeout = Duration::from_millis(settings.shared_timeout_ms);
        Ok(Self { client, links: Arc::default(), burst, timeout })
    }

    /// Connects, so that the first calls are asked for already.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn connect(&self) -> Result<(), SharedFault> {
        // A question that takes longer is given up by whoever asks; so the connection is given up too, a little before.
        let answer_timeout = self.timeout.mul_f64(0.9);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(answer_timeout.max(Duration::from_millis(1))));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(|fault| failed(&fault))?;
        let mut load = Cmd::new();
        load.arg("SCRIPT").arg("LOAD").arg(SCRIPT);
        let script: String = load.query_async(&mut connection).await.map_err(|fault| failed(&fault))?;
        let mut links = lock(&self.links);
        links.number += 1;
        links.link = Some(Link { connection, script: script.into(), number: links.number });
        Ok(())
    }

    /// The connection; or none, and one is being made.
    fn link(&self) -> Option<Link> {
        let mut links = lock(&self.links);
        if links.link.is_none() && !links.is_connecting {
            links.is_connecting = true;
            let store = self.clone();
            tokio::spawn(async move {
                let connected = store.connect().await;
                lock(&store.links).is_connecting = false;
                if let Err(fault) = connected {
                    tracing::debug!(%fault, "no shared limits");
                }
            });
        }
        links.link.clone()
    }

    fn ended(&self, number: u64) {
        let mut links = lock(&self.links);
        if links.link.as_ref().is_some_and(|link| link.number == number) {
            links.link = None;
        }
    }

    async fn ask(&self, asks: &[Ask], wait_max: Duration) -> Result<Taken, SharedFault> {
        let Some(mut link) = self.link() else { return Err(SharedFault("it is not connected".to_owned())) };
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(&*link.script).arg(asks.len());
        for ask in asks {
            command.arg(format!("{KEY_PREFIX}{}:{:016x}", kind(ask.what), ask.bucket));
        }
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(KEEP_MS_MAX * 1_000);
        command.arg(micros(self.burst)).arg(micros(wait_max)).arg(KEEP_MS_MAX);
        for ask in asks {
            command.arg(ask.count_per_minute.max(1)).arg(ask.cost);
        }
        match command.query_async::<(usize, u64)>(&mut link.connection).await {
            Ok((0, wait)) => Ok(Taken::After(Duration::from_micros(wait))),
            Ok((which, wait)) => Ok(Taken::No { which: which - 1, wait: Duration::from_micros(wait) }),
            Err(fault) => {
                // Also a server that has lost the script: it is loaded with the next connection.
                self.ended(link.number);
                Err(failed(&fault))
            }
        }
    }
}

impl Shared for RedisStore {
    fn take<'a>(&'a self, asks: &'a [Ask], wait_max: Duration) -> BoxFuture<'a, Result<Taken, SharedFault>> {
        Box::pin(self.ask(asks, wait_max))
    }
}

/// What kind of failure it was. What the library says in full may name who we are there.
fn failed(fault: &::redis::RedisError) -> SharedFault {
    SharedFault(fault.category().to_owned())
}

fn lock(links: &Mutex<Links>) -> std::sync::MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kind(what: What) -> &'static str {
    match what {
        What::Requests => "requests",
        What::InputTokens => "input",
        What::OutputTokens => "output",
        What::Tokens => "tokens",
        What::Concurrent | What::ConcurrentAgents => "concurrent",
    }
}
