package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxSeries bounds how many containers and how many services are labelled;
	// the rest are counted in effiscale_unlisted.
	maxSeries = 2000
	// scrapePatience is how long a scrape waits for the daemon's status.
	scrapePatience = 2 * time.Second
)

func metricDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("effiscale_"+name, help, labels, nil)
}

// gauge is one number of a thing, read from the status.
type gauge[T any] struct {
	desc  *prometheus.Desc
	of    func(T) (v float64, known bool)
	kind  prometheus.ValueType
	extra []string // values of the labels after the thing's name
}

func describeGauge[T any](name, help string, of func(T) (float64, bool), labels ...string) gauge[T] {
	return gauge[T]{desc: metricDesc(name, help, labels...), of: of, kind: prometheus.GaugeValue}
}

func known(v float64) (float64, bool) { return v, true }

func oneIf(b bool) (float64, bool) {
	if b {
		return 1, true
	}
	return 0, true
}

func cores(v *float64) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return *v, true
}

func sized(v *int64) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return float64(*v), true
}

// nodeGauges are of the daemon and its host.
func nodeGauges() []gauge[Status] {
	type s = Status
	return []gauge[s]{
		describeGauge("node_ready", "1 when the first full pass is done.",
			func(v s) (float64, bool) { return oneIf(v.Node.Ready) }),
		describeGauge("node_safe_mode", "1 when the daemon only measures, after crashes.",
			func(v s) (float64, bool) { return oneIf(v.Node.SafeMode) }),
		describeGauge("node_degraded", "1 when a part of the daemon does not work.",
			func(v s) (float64, bool) { return oneIf(v.Degraded) }),
		describeGauge("node_start_timestamp_seconds", "When the daemon started.", func(v s) (float64, bool) {
			return float64(v.Node.StartedAt.UnixMilli()) / 1000, !v.Node.StartedAt.IsZero()
		}),
		describeGauge("host_cpu_cores", "Cores of the host.",
			func(v s) (float64, bool) { return known(float64(v.Node.CPUs)) }),
		describeGauge("host_cpu_usage_cores", "Cores in use on the whole host.",
			func(v s) (float64, bool) { return known(v.Node.CPUUsed) }),
		describeGauge("host_memory_bytes", "Memory of the host.",
			func(v s) (float64, bool) { return known(float64(v.Node.MemoryBytes)) }),
		describeGauge("host_memory_used_bytes", "Memory in use on the host.",
			func(v s) (float64, bool) { return known(float64(v.Node.MemoryUsed)) }),
		describeGauge("pool_cpu_cores", "Cores that containers may use together.",
			func(v s) (float64, bool) { return known(v.Node.PoolCPU) }),
		describeGauge("pool_cpu_granted_cores", "Sum of all CPU quotas; what is not used of them is free to others.",
			func(v s) (float64, bool) { return known(v.Node.PoolCPUGranted) }),
		describeGauge("saved_cpu_cores", "Cores now reserved less than by the original limits; negative: more.",
			func(v s) (float64, bool) { return known(v.Summary.SavedCPU) }),
		describeGauge("saved_memory_bytes", "Memory now reserved less than by the original limits; negative: more.",
			func(v s) (float64, bool) { return known(float64(v.Summary.SavedMemory)) }),
	}
}

// containerGauges are of one container, labelled with its name.
func containerGauges() []gauge[ContainerView] {
	type c = ContainerView
	const label = "container"
	measured := func(v c) bool { return !v.SampledAt.IsZero() }
	return []gauge[c]{
		describeGauge("container_managed", "1 when the container opted in.",
			func(v c) (float64, bool) { return oneIf(v.Managed) }, label),
		describeGauge("container_cpu_limit_cores", "CPU limit; absent when unlimited.",
			func(v c) (float64, bool) { return cores(v.CPULimit) }, label),
		describeGauge("container_cpu_usage_cores", "CPU in use.",
			func(v c) (float64, bool) { return v.CPUUsed, measured(v) }, label),
		describeGauge("container_cpu_wanted_cores", "CPU limit that it would get; absent when not known yet.",
			func(v c) (float64, bool) { return cores(v.CPUWanted) }, label),
		describeGauge("container_cpu_throttled_ratio", "Share of CPU periods that were throttled.",
			func(v c) (float64, bool) { return v.Throttled, measured(v) }, label),
		describeGauge("container_memory_limit_bytes", "Memory limit; absent when unlimited.",
			func(v c) (float64, bool) { return sized(v.MemoryLimit) }, label),
		describeGauge("container_memory_working_set_bytes", "Memory in use that cannot be reclaimed at once.",
			func(v c) (float64, bool) { return float64(v.MemoryUsed), measured(v) }, label),
		describeGauge("container_memory_wanted_bytes", "Memory limit that it would get; absent when not known yet.",
			func(v c) (float64, bool) { return sized(v.MemoryWanted) }, label),
	}
}

// forecastGauges are of one service that is forecast, five minutes ahead.
func forecastGauges() []gauge[Forecast] {
	type f = Forecast
	const label = "service"
	scored := func(v float64, s f) (float64, bool) { return v, s.ScoredFor > 0 }
	return []gauge[f]{
		describeGauge("service_forecast_cpu_cores",
			"Peak CPU demand of the busiest container expected in the next five minutes.",
			func(v f) (float64, bool) { return known(v.Expected) }, label),
		describeGauge("service_forecast_cpu_bound_cores", "Upper bound of the forecast, at the level of the service's class.",
			func(v f) (float64, bool) { return known(v.Upper) }, label),
		describeGauge("service_forecast_level_ratio", "Share of the time in which the bound should hold.",
			func(v f) (float64, bool) { return known(v.Level) }, label),
		describeGauge("service_forecast_coverage_ratio", "Share of the time in which past bounds of the forecast held.",
			func(v f) (float64, bool) { return scored(v.Coverage, v) }, label),
		describeGauge("service_forecast_error_ratio",
			"Error of the forecast over that of \"same as now\"; under 1: it is better.",
			func(v f) (float64, bool) { return scored(1-v.Gain, v) }, label),
		describeGauge("service_forecast_trusted", "1 when the forecast may raise the CPU floor.",
			func(v f) (float64, bool) { return oneIf(v.Trusted) }, label),
	}
}

// collector asks the daemon for its status at each scrape.
type collector struct {
	from      NodeBackend
	cluster   []clusterMetric
	node      []gauge[Status]
	container []gauge[ContainerView]
	forecast  []gauge[Forecast]
}

func newCollector(from NodeBackend) *collector {
	return &collector{from: from, cluster: clusterMetrics(), node: nodeGauges(),
		container: append(containerGauges(), detailGauges()...), forecast: forecastGauges()}
}

var (
	upDesc       = metricDesc("node_up", "1 when the daemon answers.")
	membersDesc  = metricDesc("cluster_members", "Nodes of the cluster, by state.", "state")
	listedDesc   = metricDesc("containers", "Containers that the daemon knows.")
	unlistedDesc = metricDesc("unlisted", "Containers and services beyond the limit of series.", "kind")
	replicasDesc = metricDesc("service_replicas", "Replicas of a service on this host.", "service", "kind")
)

// Describe names every series that Collect may send.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, listedDesc, unlistedDesc, replicasDesc, infoDesc, stateDesc,
		problemsDesc} {
		ch <- d
	}
	for _, m := range c.cluster {
		ch <- m.desc
	}
	for _, g := range c.node {
		ch <- g.desc
	}
	for _, g := range c.container {
		ch <- g.desc
	}
	for _, g := range c.forecast {
		ch <- g.desc
	}
}

// Collect reads one status.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	stats := c.from.ClusterStats()
	c.others(ch, stats)
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	s, err := c.from.Status(ctx, None{})
	if err != nil {
		ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, 0)
		return
	}
	ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, 1)
	if stats.Members == nil {
		ch <- prometheus.MustNewConstMetric(membersDesc, prometheus.GaugeValue, float64(s.Node.Members), "alive")
	}
	for _, g := range c.node {
		emit(ch, g, s)
	}
	c.containers(ch, &s)
	problemCounts(ch, s.ProblemKinds)
	c.services(ch, s.Services)
}

// containers sends those of this host: each host has a page of its own.
func (c *collector) containers(ch chan<- prometheus.Metric, s *Status) {
	all := slices.DeleteFunc(slices.Clone(s.Containers), func(v ContainerView) bool { return v.Host != "" })
	owners := make(map[string]string, len(s.Services))
	for _, v := range s.Services {
		owners[v.Name] = v.Owner
	}
	seen := make(map[string]bool, len(all))
	for _, v := range all {
		name := strings.ToValidUTF8(v.Name, "?")
		if len(seen) >= maxSeries || seen[name] {
			continue // a page with two equal series is refused as a whole
		}
		seen[name] = true
		for _, g := range c.container {
			emit(ch, g, v, name)
		}
		describeContainer(ch, v, name, owners[v.Service])
	}
	ch <- prometheus.MustNewConstMetric(listedDesc, prometheus.GaugeValue, float64(len(all)))
	ch <- prometheus.MustNewConstMetric(unlistedDesc, prometheus.GaugeValue, float64(len(all)-len(seen)), "container")
}

func (c *collector) services(ch chan<- prometheus.Metric, all []ServiceView) {
	seen := make(map[string]bool, len(all))
	for _, v := range all {
		name := strings.ToValidUTF8(v.Name, "?")
		if len(seen) >= maxSeries || seen[name] {
			continue
		}
		seen[name] = true
		ch <- prometheus.MustNewConstMetric(replicasDesc, prometheus.GaugeValue, float64(len(v.Containers)), name, "current")
		for _, g := range c.forecast {
			if v.Forecast != nil {
				emit(ch, g, *v.Forecast, name)
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(unlistedDesc, prometheus.GaugeValue, float64(len(all)-len(seen)), "service")
}

func emit[T any](ch chan<- prometheus.Metric, g gauge[T], v T, labels ...string) {
	if n, ok := g.of(v); ok {
		ch <- prometheus.MustNewConstMetric(g.desc, g.kind, n, append(labels, g.extra...)...)
	}
}
