//! The answer to `INFO`: lines of `name:value`.

use std::collections::BTreeMap;

use crate::reading::Reading;

/// Lines that are kept; a server has some two hundred.
const LINES_MAX: usize = 5_000;
/// Databases, replicas and commands that are told.
const PARTS_MAX: usize = 512;

/// Values that are told under the exporters' names as they are.
const PLAIN: &[(&str, &str)] = &[
    ("uptime_in_seconds", "redis_uptime_in_seconds"),
    ("connected_clients", "redis_connected_clients"),
    ("blocked_clients", "redis_blocked_clients"),
    ("maxclients", "redis_config_maxclients"),
    ("used_memory", "redis_memory_used_bytes"),
    ("used_memory", "redis_memory_bytes"),
    ("used_memory_peak", "redis_memory_used_peak_bytes"),
    ("used_memory_peak", "redis_memory_peak_bytes"),
    ("used_memory_rss", "redis_memory_used_rss_bytes"),
    ("used_memory_lua", "redis_memory_used_lua_bytes"),
    ("maxmemory", "redis_memory_max_bytes"),
    ("mem_fragmentation_ratio", "redis_mem_fragmentation_ratio"),
    ("loading", "redis_loading_dump_file"),
    ("rdb_changes_since_last_save", "redis_rdb_changes_since_last_save"),
    ("rdb_bgsave_in_progress", "redis_rdb_bgsave_in_progress"),
    ("rdb_last_save_time", "redis_rdb_last_save_timestamp_seconds"),
    ("rdb_last_bgsave_time_sec", "redis_rdb_last_bgsave_duration_sec"),
    ("aof_enabled", "redis_aof_enabled"),
    ("aof_rewrite_in_progress", "redis_aof_rewrite_in_progress"),
    ("aof_last_rewrite_time_sec", "redis_aof_last_rewrite_duration_sec"),
    ("aof_current_size", "redis_aof_current_size_bytes"),
    ("aof_base_size", "redis_aof_base_size_bytes"),
    ("total_connections_received", "redis_connections_received_total"),
    ("total_commands_processed", "redis_commands_processed_total"),
    ("total_net_input_bytes", "redis_net_input_bytes_total"),
    ("total_net_output_bytes", "redis_net_output_bytes_total"),
    ("rejected_connections", "redis_rejected_connections_total"),
    ("total_error_replies", "redis_total_error_replies"),
    ("expired_keys", "redis_expired_keys_total"),
    ("evicted_keys", "redis_evicted_keys_total"),
    ("keyspace_hits", "redis_keyspace_hits_total"),
    ("keyspace_misses", "redis_keyspace_misses_total"),
    ("pubsub_channels", "redis_pubsub_channels"),
    ("latest_fork_usec", "redis_latest_fork_usec"),
    ("connected_slaves", "redis_connected_slaves"),
    ("master_repl_offset", "redis_master_repl_offset"),
    ("master_last_io_seconds_ago", "redis_master_last_io_seconds_ago"),
    ("master_sync_in_progress", "redis_master_sync_in_progress"),
    ("used_cpu_sys", "redis_cpu_sys_seconds_total"),
    ("used_cpu_user", "redis_cpu_user_seconds_total"),
];

/// `ok` or `up` is 1, anything else 0.
const STATES: &[(&str, &str)] = &[
    ("rdb_last_bgsave_status", "redis_rdb_last_bgsave_status"),
    ("aof_last_bgrewrite_status", "redis_aof_last_bgrewrite_status"),
    ("aof_last_write_status", "redis_aof_last_write_status"),
    ("master_link_status", "redis_master_link_up"),
];

#[derive(Debug, Default)]
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#')).take(LINES_MAX);
        Self(lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.parse().ok().filter(|value: &f64| value.is_finite())
    }

    pub(super) fn tell(&self, reading: &mut Reading) {
        for (name, metric) in PLAIN {
            if let Some(value) = self.number(name) {
                reading.gauge(metric, value);
            }
        }
        for (name, metric) in STATES {
            if let Some(state) = self.get(name) {
                reading.gauge(metric, f64::from(u8::from(matches!(state, "ok" | "up"))));
            }
        }
        let start = self.number("uptime_in_seconds").zip(self.number("server_time_usec")).map(|(uptime, now)| now / 1e6 - uptime);
        if let Some(start) = start {
            reading.gauge("redis_start_time_seconds", start.floor());
        }
        let role = self.get("role").unwrap_or("unknown");
        let labels = [
            ("role", role),
            ("redis_version", self.get("redis_version").unwrap_or("")),
            ("redis_mode", self.get("redis_mode").unwrap_or("")),
            ("maxmemory_policy", self.get("maxmemory_policy").unwrap_or("")),
        ];
        reading.add("redis_instance_info", &labels, 1.0);
        self.tell_databases(reading);
        self.tell_replicas(reading);
    }

    fn tell_databases(&self, reading: &mut Reading) {
        let mut keys = 0.0;
        let databases = self.0.iter().filter(|(name, _)| is_numbered(name, "db")).take(PARTS_MAX);
        for (database, text) in databases {
            let labels = [("db", database.as_str())];
            for (name, metric) in [("keys", "redis_db_keys"), ("expires", "redis_db_keys_expiring")] {
                if let Some(value) = part(text, name).and_then(|value| value.parse::<f64>().ok()) {
                    reading.add(metric, &labels, value);
                    keys += if name == "keys" { value } else { 0.0 };
                }
            }
            if let Some(millis) = part(text, "avg_ttl").and_then(|value| value.parse::<f64>().ok()) {
                reading.add("redis_db_avg_ttl_seconds", &labels, millis / 1e3);
            }
        }
        reading.gauge("redis_key_count", keys);
    }

    fn tell_replicas(&self, reading: &mut Reading) {
        for (_, text) in self.0.iter().filter(|(name, _)| is_numbered(name, "slave")).take(PARTS_MAX) {
            let (Some(ip), Some(port)) = (part(text, "ip"), part(text, "port")) else { continue };
            let labels = [("slave_ip", ip), ("slave_port", port), ("slave_state", part(text, "state").unwrap_or(""))];
            for (name, metric) in [("offset", "redis_connected_slave_offset_bytes"), ("lag", "redis_connected_slave_lag_seconds")] {
                if let Some(value) = part(text, name).and_then(|value| value.parse::<f64>().ok()) {
                    reading.add(metric, &labels, value);
                }
            }
        }
    }
}

/// Calls and time of commands, from the section `commandstats`.
pub(super) fn tell_commands(text: &str, reading: &mut Reading) {
    for line in text.lines().take(PARTS_MAX) {
        let Some((command, rest)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':')) else { continue };
        let number = |name| part(rest, name).and_then(|value: &str| value.trim().parse::<f64>().ok());
        if let Some(calls) = number("calls") {
            reading.add("redis_commands_total", &[("cmd", command)], calls);
            reading.add("redis_operations_total", &[("operation", command)], calls);
        }
        if let Some(micros) = number("usec") {
            reading.add("redis_commands_duration_seconds_total", &[("cmd", command)], micros / 1e6);
        }
    }
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A value of `a=1,b=2`.
fn part<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:100\r\nserver_time_usec:1700000100000000\r\n# Memory\r\n\
        used_memory:1024\r\nmaxmemory:2048\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\nrdb_last_bgsave_status:err\r\n\
        aof_enabled:0\r\n# Replication\r\nrole:master\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=55,lag=1\r\n\
        # Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=1500\r\ndb11:keys=7,expires=0,avg_ttl=0\r\n";

    fn told(text: &str) -> Reading {
        let mut reading = Reading::new(&BTreeMap::new(), 10_000);
        Info::parse(text).tell(&mut reading);
        tell_commands(
            "# Commandstats\r\ncmdstat_get:calls=21,usec=175,usec_per_call=8.33\r\ncmdstat_config|get:calls=1,usec=2\r\n",
            &mut reading,
        );
        reading
    }

    #[test]
    fn is_told_under_the_exporters_names() {
        let reading = told(TEXT);
        for (metric, labels, value) in [
            ("redis_memory_used_bytes", vec![], 1_024.0),
            ("redis_memory_max_bytes", vec![], 2_048.0),
            ("redis_rdb_last_bgsave_status", vec![], 0.0),
            ("redis_start_time_seconds", vec![], 1_700_000_000.0),
            ("redis_instance_info", vec![("role", "master"), ("maxmemory_policy", "noeviction")], 1.0),
            ("redis_connected_slave_lag_seconds", vec![("slave_ip", "10.0.0.2")], 1.0),
            ("redis_db_keys", vec![("db", "db11")], 7.0),
            ("redis_db_avg_ttl_seconds", vec![("db", "db0")], 1.5),
            ("redis_key_count", vec![], 12.0),
            ("redis_commands_total", vec![("cmd", "config|get")], 1.0),
            ("redis_operations_total", vec![("operation", "get")], 21.0),
        ] {
            assert_eq!(reading.get(metric, &labels), Some(value), "{metric}");
        }
        assert_eq!(reading.get("redis_aof_last_write_status", &[]), None, "not told, not guessed");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damage_does_no_harm(at in 0usize..600, replacement in ".{0,6}", cut in 0usize..600) {
            let mut damaged = TEXT.to_owned();
            damaged.insert_str(damaged.floor_char_boundary(at), &replacement);
            damaged.truncate(damaged.floor_char_boundary(cut));
            let reading = told(&damaged);
            prop_assert!(reading.samples().iter().all(|(_, value)| value.is_finite()));
        }
    }
}
