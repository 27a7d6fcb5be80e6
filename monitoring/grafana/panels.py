"""What the dashboards show. A panel says what it is about, in which unit, and what is asked; make.py does the rest."""

P = 'job="$job", instance=~"$instance"'  # of a process
C = P + ', channel=~"$channel"'  # of a channel


def graph(title, description, unit, *queries, width=8, height=8, **more):
    return dict(kind="timeseries", title=title, description=description, unit=unit, queries=queries, width=width, height=height, **more)


def stat(title, description, unit, query, **more):
    return dict(kind="stat", title=title, description=description, unit=unit, queries=[(query, "")], width=4, height=4, **more)


def heatmap(title, description, query, **more):
    return dict(kind="heatmap", title=title, description=description, unit="short", queries=[(query, "{{le}}")], height=8, **more)


def states(title, description, query, legend, names, **more):
    return dict(kind="state-timeline", title=title, description=description, unit="none", queries=[(query, legend)], states=names, **more)


def table(title, description, query, **more):
    return dict(kind="table", title=title, description=description, unit="none", queries=[(query, "")], height=8, **more)


def stacked(*args, **more):
    return graph(*args, custom={"stacking": {"mode": "normal", "group": "A"}}, **more)


def rate(metric, by, selector):
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def quantile(q, metric, by, selector):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric}_bucket{{{selector}}}[$__rate_interval])))"


def quantiles(metric, selector, *qs):
    return [(f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{selector}}}[$__rate_interval])))", f"p{q * 100:g}") for q in qs]


# Events that are seldom: counted over the graph's own steps, so that each is seen once, also where they were the first.
def events(metric, by, selector):
    return (f"sum by ({by}) (increase({metric}{{{selector}}}[$__rate_interval])"
            f" or ({metric}{{{selector}}} unless {metric}{{{selector}}} offset $__rate_interval))")


POSTS = 'method="POST", path=~"/v1/messages(/batch)?"'
LAG = "max by (job, group, topic, partition) (chat4all_consumer_lag{%s})"
NONE = "none"

OVERVIEW = (
    "overview", "Overview", "Load, errors, latency and saturation of every role.",
    [
        ("At a glance", [
            stat("Processes", "Processes that answer Prometheus.", "none", 'sum(up{job="$job"})'),
            stat("Not ready", "Roles of processes whose /health/ready says 503.", "none",
                 'count(chat4all_ready{job="$job"}) - sum(chat4all_ready{job="$job"})'),
            stat("Accepted", "Messages answered 202.", "reqps", 'sum(rate(chat4all_messages_accepted_total{job="$job"}[$__rate_interval]))'),
            stat("Not accepted, 1 h", "Share of the valid POSTs of the last hour that were answered 5xx. The objective is 0.1 %.", "percentunit",
                 'job:chat4all_accept_errors:ratio_rate1h{job="$job"}'),
            stat("Ended", "Deliveries that came to an end, good or bad.", "ops",
                 'sum(rate(chat4all_deliveries_total{job="$job"}[$__rate_interval]))'),
            stat("Waiting", "Records that were not finished yet, of all topics.", "short", 'sum(topic:chat4all_consumer_lag:sum{job="$job"})'),
            table("Alerts", "What fires, and what will if it goes on. docs/RUNBOOK.md has a section for each.", 'ALERTS{job="$job"}',
                  width=12, none=NONE),
            table("Processes", "Every process that was scraped, with its version.", 'chat4all_build_info{job="$job"}', width=12),
        ]),
        ("api", [
            stacked("Requests", "HTTP requests answered, by status. Probes and scrapes are left out.", "reqps",
                    (rate("chat4all_http_requests_total", "status", P + ', path=~"/v1.*"') + " > 0", "{{status}}")),
            graph("Latency of accepting", "From a POST's head to its answer; 202 waits for the log's fsync or its replicas.", "s",
                  *quantiles("chat4all_http_request_duration_seconds", f"{P}, {POSTS}", 0.5, 0.95, 0.99)),
            graph("Not accepted", "Share of the valid POSTs answered 5xx, over the windows that the alerts use. The objective is 0.1 %.",
                  "percentunit",
                  ('job:chat4all_accept_errors:ratio_rate5m{job="$job"}', "5 min"), ('job:chat4all_accept_errors:ratio_rate30m{job="$job"}', "30 min"),
                  ('job:chat4all_accept_errors:ratio_rate1h{job="$job"}', "1 h"), ('job:chat4all_accept_errors:ratio_rate6h{job="$job"}', "6 h"),
                  min=0),
            stacked("Refused", "Messages not accepted, by the error code of the answer.", "reqps",
                    (rate("chat4all_messages_rejected_total", "reason", P), "{{reason}}"), none=NONE),
            graph("Latency of other calls", "95th percentile, by route.", "s",
                  (quantile(0.95, "chat4all_http_request_duration_seconds", "method, path", P + ', path=~"/v1.*"'), "{{method}} {{path}}")),
            stacked("Providers' calls", "Receipts by status, messages from the other side, and what was refused.", "reqps",
                    (rate("chat4all_callback_events_total", "channel, event", P), "{{channel}} {{event}}"), none=NONE),
        ]),
        ("router", [
            stacked("Routed", "Copies put on a channel's topic.", "ops", (rate("chat4all_messages_routed_total", "channel", P), "{{channel}}")),
            graph("Waiting to be routed", "Records of `messages` that a group has not finished.", "short",
                  (f"sum by (topic) ({LAG % (P + ', topic=%smessages%s' % (chr(34), chr(34)))})", "{{topic}}")),
            graph("Repeats dropped", "Messages that were on the log twice.", "ops",
                  (rate("chat4all_messages_repeated_total", "instance", P), "{{instance}}"), none=NONE),
        ]),
        ("connectors", [
            stacked("Attempts", "Calls of providers, by what came of them.", "ops",
                    (rate("chat4all_delivery_attempts_total", "outcome", P), "{{outcome}}")),
            graph("Latency of providers", "From the call to the last byte of the answer, 95th percentile.", "s",
                  (quantile(0.95, "chat4all_provider_request_duration_seconds", "channel", P), "{{channel}}")),
            stacked("Lanes", "Conversations by what their first message does: ready to be sent, in flight, or waiting.", "short",
                    (f"sum by (state) (chat4all_lanes{{{P}}})", "{{state}}")),
        ]),
        ("recorder", [
            graph("Writes", "Batches written to the status store.", "ops",
                  (rate("chat4all_status_write_duration_seconds_count", "instance", P), "{{instance}}")),
            graph("Latency of writes", "How long the status store took for a batch.", "s",
                  *quantiles("chat4all_status_write_duration_seconds", P, 0.5, 0.99)),
            graph("Waiting to be recorded", "Writes under way, and status events that wait.", "short",
                  (f"sum(chat4all_status_pending{{{P}}})", "under way"),
                  ('topic:chat4all_consumer_lag:sum{job="$job", topic="status-updates"}', "waiting")),
        ]),
        ("Processes", [
            graph("CPU", "Cores in use.", "none", (f"rate(process_cpu_seconds_total{{{P}}}[$__rate_interval])", "{{roles}} {{instance}}")),
            graph("Memory", "Resident.", "bytes", (f"process_resident_memory_bytes{{{P}}}", "{{roles}} {{instance}}")),
            graph("Descriptors", "Share of the open files that a process may have.", "percentunit",
                  (f"process_open_fds{{{P}}} / process_max_fds{{{P}}}", "{{roles}} {{instance}}"), min=0),
            graph("Threads", "Of the operating system.", "short", (f"process_threads{{{P}}}", "{{roles}} {{instance}}")),
            stacked("Log lines", "By level, those included that were withheld.", "ops", (rate("chat4all_log_lines_total", "level", P), "{{level}}")),
            graph("Log lines withheld", "Lines that were counted and not written, since too many of their kind came at once.", "ops",
                  (rate("chat4all_log_lines_withheld_total", "instance", P), "{{instance}}")),
        ]),
    ],
)

DELIVERY = (
    "delivery", "Delivery", "What becomes of the copies, channel by channel.",
    [
        ("Deliveries", [
            stacked("Ended", "Deliveries that came to an end, by how. A channel with receipts ends as `sent` here, and is `delivered` later.", "ops",
                    (rate("chat4all_deliveries_total", "channel, outcome", C), "{{channel}} {{outcome}}")),
            graph("Latency", "From the 202 to the provider's acceptance. Replays are left out.", "s",
                  *quantiles("chat4all_delivery_latency_seconds", C, 0.5, 0.95, 0.99)),
            graph("Missed", "Share of the deliveries that were not sent within 30 s, over the windows that the alerts use. The objective is 1 %.",
                  "percentunit",
                  ('channel:chat4all_delivery_misses:ratio_rate5m{job="$job", channel=~"$channel"}', "{{channel}} 5 min"),
                  ('channel:chat4all_delivery_misses:ratio_rate1h{job="$job", channel=~"$channel"}', "{{channel}} 1 h"),
                  ('channel:chat4all_delivery_misses:ratio_rate6h{job="$job", channel=~"$channel"}', "{{channel}} 6 h"), min=0),
            heatmap("Latency, all of it", "From the 202 to the provider's acceptance: how many took how long.",
                    f"sum by (le) (increase(chat4all_delivery_latency_seconds_bucket{{{C}}}[$__rate_interval]))", width=16),
            stacked("Failed for good", "Dead letters by reason, each once.", "short",
                    (events("chat4all_dead_letters_total", "channel, reason", C), "{{channel}} {{reason}}"), none=NONE),
        ]),
        ("Attempts", [
            stacked("Attempts", "Calls of the provider, by what came of them.", "ops",
                    (rate("chat4all_delivery_attempts_total", "channel, outcome", C), "{{channel}} {{outcome}}")),
            graph("Retries", "Attempts that are followed by another.", "ops", (rate("chat4all_retries_total", "channel", C), "{{channel}}")),
            graph("Calls that waited for a rate", "Our own limits, and those that a provider's 429 set.", "ops",
                  (rate("chat4all_rate_limited_total", "channel", C), "{{channel}}")),
            heatmap("Latency of the provider", "From the call to the last byte of the answer: how many took how long.",
                    f"sum by (le) (increase(chat4all_provider_request_duration_seconds_bucket{{{C}}}[$__rate_interval]))", width=16),
            stacked("Calls in flight", "At most `limits.in_flight` in each process.", "short",
                    (f'sum by (channel) (chat4all_lanes{{{C}, state="in_flight"}})', "{{channel}}")),
            stacked("Sent again", "Attempts made though an earlier one may have been taken: its answer was lost (`ambiguous`), or it was cut off (`abandoned`).",
                    "ops", (rate("chat4all_deliveries_resent_total", "channel, reason", C), "{{channel}} {{reason}}"), none=NONE),
            graph("Repeats dropped", "Exact repeats on the outbound topic.", "ops",
                  (rate("chat4all_duplicates_suppressed_total", "channel", C), "{{channel}}")),
            graph("Unknown codes", "Answers whose error code this version does not know.", "ops",
                  (rate("chat4all_unknown_codes_total", "channel", C), "{{channel}}"), none=NONE),
        ]),
        ("Waiting", [
            graph("Waiting", "Copies that are routed and not finished, by topic; what is parked waits for its destination.", "short",
                  ('topic:chat4all_consumer_lag:sum{job="$job", channel=~"$channel"}', "{{topic}}")),
            stacked("Lanes", "Conversations by what their first message does: ready to be sent, in flight, or waiting.", "short",
                    (f"sum by (channel, state) (chat4all_lanes{{{C}}})", "{{channel}} {{state}}")),
            graph("Parked", "Deliveries put out of the way of others.", "ops", (rate("chat4all_deliveries_parked_total", "channel", C), "{{channel}}")),
        ]),
        ("Breakers", [
            states("Breaker", "Of each process: open while the provider is away, half-open while a few calls try whether it is back.",
                   f"chat4all_circuit_breaker_state{{{C}}}", "{{channel}} {{instance}}",
                   [("closed", "green"), ("half-open", "yellow"), ("open", "red")], width=12, height=8),
            states("Paused", "By an operator.", f"max by (channel) (chat4all_channel_paused{{{C}}})", "{{channel}}",
                   [("goes", "green"), ("paused", "blue")], width=12, height=8),
            graph("Destinations away", "Hosts of a webhook channel whose breaker is not closed, of the process that sees most.", "short",
                  (f"max by (channel) (chat4all_destinations_away{{{C}}})", "{{channel}}"), width=12),
            stacked("Breakers change", "States entered, by the channel's breaker or one of its destinations'.", "short",
                    (events("chat4all_circuit_breaker_transitions_total", "channel, to", C), "{{channel}} {{to}}"), width=12, none=NONE),
        ]),
    ],
)

FAILOVER = (
    "failover", "Failover", "Who holds what, and what a kill costs.",
    [
        ("Partitions", [
            graph("Without a holder", "Partitions that were held within the last hour and are not now: the gaps that takeovers leave.", "short",
                  ('topic:chat4all_partitions_unheld:count{job="$job"}', "{{topic}}"), min=0),
            graph("Time without a holder", "Of the hour before: of all a topic's partitions together, as exactly as is scraped.", "s",
                  ('avg_over_time(topic:chat4all_partitions_unheld:count{job="$job"}[1h]) * 3600', "{{topic}}"), min=0),
            stacked("Held", "Partitions in the hand of each process, of all topics.", "short",
                    (f"sum by (instance, roles) (chat4all_partitions_held{{{P}}})", "{{roles}} {{instance}}")),
            graph("Catching up", "From being assigned a partition until what waited there was finished, 99th percentile.", "s",
                  (quantile(0.99, "chat4all_partition_catch_up_seconds", "group, topic", P), "{{group}} {{topic}}")),
            stacked("Assigned", "Partitions taken, each once.", "short",
                    (events("chat4all_partitions_assigned_total", "instance, roles", P), "{{roles}} {{instance}}")),
            stacked("Revoked", "Partitions given away in order, or lost.", "short",
                    (events("chat4all_partitions_revoked_total", "instance, roles", P), "{{roles}} {{instance}}"), none=NONE),
            heatmap("Catching up, all of it", "How many takeovers took how long until what waited was finished.",
                    f"sum by (le) (increase(chat4all_partition_catch_up_seconds_bucket{{{P}}}[$__rate_interval]))", width=8),
            graph("Epochs", "An epoch is one higher with each new holder: the highest of a topic's partitions.", "short",
                  (f"max by (group, topic) (chat4all_partition_epoch{{{P}}})", "{{group}} {{topic}}")),
            table("Holders", "Who holds each partition, and under which epoch.", f"chat4all_partition_epoch{{{P}}}", width=16, value="epoch"),
        ]),
        ("Work", [
            graph("Waiting", "Records not finished, by topic.", "short", ('topic:chat4all_consumer_lag:sum{job="$job"}', "{{topic}}")),
            graph("Finished", "Records finished, by topic.", "ops", (rate("chat4all_records_finished_total", "group, topic", P), "{{group}} {{topic}}")),
            stacked("Sent again", "Attempts made though an earlier one may have been taken.", "ops",
                    (rate("chat4all_deliveries_resent_total", "channel, reason", P), "{{channel}} {{reason}}"), none=NONE),
        ]),
        ("Processes", [
            states("Answers", "Whether Prometheus could scrape a process.", 'up{job="$job", instance=~"$instance"}', "{{roles}} {{instance}}",
                   [("no", "red"), ("yes", "green")], width=12, height=8),
            states("Ready", "Whether a role may be given work.", f"chat4all_ready{{{P}}}", "{{role}} {{instance}}",
                   [("no", "red"), ("yes", "green")], width=12, height=8),
            graph("Starts", "How often a process was started anew at this address.", "short",
                  (f"changes(process_start_time_seconds{{{P}}}[$__rate_interval])", "{{roles}} {{instance}}"), width=12),
            stacked("Actors restarted", "After a panic, each once.", "short",
                    (events("chat4all_actor_restarts_total", "instance, actor", P), "{{actor}} {{instance}}"), width=12, none=NONE),
        ]),
    ],
)

ENGINES = (
    "engines", "Engines", "The log and the status store as we see them.",
    [
        ("Log", [
            graph("Latency of appending", "From handing records over to their acknowledgement, 99th percentile.", "s",
                  (quantile(0.99, "chat4all_log_publish_duration_seconds", "topic", P), "{{topic}}")),
            graph("Appends", "Calls acknowledged; each carries one record or many.", "ops",
                  (rate("chat4all_log_publish_duration_seconds_count", "topic", P), "{{topic}}")),
            heatmap("Appending, all of it", "How many appends took how long.",
                    f"sum by (le) (increase(chat4all_log_publish_duration_seconds_bucket{{{P}}}[$__rate_interval]))", width=8),
        ]),
        ("Status store", [
            graph("Latency of writes", "How long it took for a batch.", "s", *quantiles("chat4all_status_write_duration_seconds", P, 0.5, 0.95, 0.99)),
            graph("Writes", "Batches acknowledged.", "ops", (rate("chat4all_status_write_duration_seconds_count", "instance", P), "{{instance}}")),
            graph("Under way", "Writes handed over and not yet acknowledged.", "short", (f"sum by (instance) (chat4all_status_pending{{{P}}})", "{{instance}}")),
            graph("Keys unclaimed", "Messages with a key or id of the client's that were accepted while the store was away or slow.", "ops",
                  (rate("chat4all_idempotency_unclaimed_total", "instance", P), "{{instance}}"), none=NONE),
            graph("Receipts joined", "Statuses told because a receipt and its delivery came together.", "ops",
                  (rate("chat4all_receipts_joined_total", "status", P), "{{status}}"), none=NONE),
        ]),
        ("Embedded engines", [
            graph("Free on the disk", "Of the file system that holds the data folder.", "bytes",
                  ('min by (host) (label_replace(chat4all_data_free_bytes{job="$job"}, "host", "$1", "instance", "(.*):[0-9]+"))', "{{host}}"),
                  min=0),
            graph("Free share", "Chat4AllDiskAlmostFull fires under 10 %.", "percentunit", ('host:chat4all_data_free:ratio{job="$job"}', "{{host}}"),
                  min=0, max=1),
            graph("Full in", "If it goes on as in the last hour; no line while nothing is filled.", "s",
                  ('min by (host) (label_replace(chat4all_data_free_bytes{job="$job"} / (deriv(chat4all_data_free_bytes{job="$job"}[1h]) < 0) * -1,'
                   ' "host", "$1", "instance", "(.*):[0-9]+"))', "{{host}}"), none="not at this rate"),
        ]),
        ("Kafka", [
            stacked("Commits refused", "For partitions that another holder has taken over.", "short",
                    (events("chat4all_log_commits_refused_total", "instance", P), "{{instance}}"), none=NONE),
            stacked("Gaps", "Times that records were deleted before a group had finished them: messages were lost.", "short",
                    (events("chat4all_log_gaps_total", "instance, topic", P), "{{topic}} {{instance}}"), none=NONE),
            stacked("Silences", "Times that a partition was taken anew because its records had stopped coming.", "short",
                    (events("chat4all_log_silences_total", "instance, topic", P), "{{topic}} {{instance}}"), none=NONE),
            stacked("Producers failed", "And were made anew.", "short",
                    (events("chat4all_log_producer_failures_total", "instance", P), "{{instance}}"), none=NONE),
        ]),
        ("Traces", [
            graph("Spans dropped", "Made faster than the collector took them, or while it was away.", "ops",
                  (rate("chat4all_trace_spans_dropped_total", "instance", P), "{{instance}}"), none=NONE),
        ]),
    ],
)

DASHBOARDS = [OVERVIEW, DELIVERY, FAILOVER, ENGINES]
