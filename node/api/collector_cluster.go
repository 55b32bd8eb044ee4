package api

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// clusterMetric is one metric that is read from the cluster's stats: a number, or
// one for each value of a label.
type clusterMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	one  func(ClusterStats) uint64 // nil: many
	many func(ClusterStats) map[string]uint64
}

func clusterMetrics() []clusterMetric {
	type s = ClusterStats
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	one := func(kind prometheus.ValueType, name, help string, of func(s) uint64) clusterMetric {
		return clusterMetric{desc: metricDesc(name, help), kind: kind, one: of}
	}
	by := func(label, name, help string, of func(s) map[string]uint64) clusterMetric {
		return clusterMetric{desc: metricDesc(name, help, label), kind: counter, many: of}
	}
	return []clusterMetric{
		{desc: membersDesc, kind: gauge, many: func(v s) map[string]uint64 { return v.members() }},
		one(gauge, "gossip_health_score", "Health score of gossip: 0 is healthy.",
			func(v s) uint64 { return uint64(max(v.GossipHealth, 0)) }),
		one(gauge, "cluster_majority", "1 when more than half of the voters are alive.",
			func(v s) uint64 {
				if v.Majority {
					return 1
				}
				return 0
			}),
		one(gauge, "cluster_claims", "Services that this node plans for.",
			func(v s) uint64 { return uint64(max(v.Claims, 0)) }),
		one(counter, "cluster_takeovers_total", "Takeovers of services from another node.",
			func(v s) uint64 { return v.Takeovers }),
		one(counter, "cluster_terms_refused_total", "Intents refused because of a higher known term.",
			func(v s) uint64 { return v.TermsRefused }),
		by("event", "cluster_events_total",
			"Ring changes, superseded claims, false failure alarms, event loop stalls, cuts refused by the quorum.",
			func(v s) map[string]uint64 { return v.Events }),
		by("direction", "relay_bytes_total", "Bytes of calls between nodes.", func(v s) map[string]uint64 {
			return map[string]uint64{"sent": v.RelaySent, "received": v.RelayReceived}
		}),
		one(counter, "relay_errors_total", "Failed calls of other nodes.", func(v s) uint64 { return v.RelayErrors }),
		one(counter, "relay_dropped_total", "Messages to other nodes dropped because their queue was full.",
			func(v s) uint64 { return v.RelayDropped }),
		by("cause", "trust_refused_total", "Untrusted peers and messages.",
			func(v s) map[string]uint64 { return v.TrustRefused }),
		by("cause", "reports_refused_total", "Refused reports of other hosts.",
			func(v s) map[string]uint64 { return v.ReportsRefused }),
		by("result", "intents_total", "Intents for this host, by result.",
			func(v s) map[string]uint64 { return v.Intents }),
	}
}

func (v ClusterStats) members() map[string]uint64 {
	out := make(map[string]uint64, len(v.Members))
	for status, n := range v.Members {
		out[status] = uint64(max(n, 0))
	}
	return out
}

// others sends what is known of the cluster.
func (c *collector) others(ch chan<- prometheus.Metric, stats ClusterStats) {
	for _, m := range c.cluster {
		if m.one != nil {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.one(stats)))
			continue
		}
		for word, n := range bounded(m.many(stats)) {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(n), word)
		}
	}
}

// bounded keeps a label from growing: values that are too many, or no valid names,
// are summed up as "other".
func bounded(counts map[string]uint64) map[string]uint64 {
	out := make(map[string]uint64, min(len(counts), maxWords))
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		n := counts[word]
		if len(out) >= maxWords || checkName(word) != nil {
			word = other
		}
		out[word] += n
	}
	return out
}
