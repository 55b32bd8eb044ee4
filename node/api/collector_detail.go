package api

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	infoDesc = metricDesc("container_info", "1, labelled with what a container is.",
		"container", "service", "class", "mode", "owner", "image")
	stateDesc = metricDesc("container_state", "1, labelled with the state that `effiscale status` shows.",
		"container", "state")
	problemsDesc = metricDesc("problems", "Problems of this host that `effiscale status` lists, by kind.", "kind")
)

// ContainerDetail is what the metrics page shows of a container beside its view.
type ContainerDetail struct {
	Image                 string
	Restarts              int
	OOMKills              uint64
	Usage, Cache, Hard    int64 // bytes of memory; Hard cannot be reclaimed
	CPUFloor, CPUCeiling  float64
	MemFloor, MemCeiling  int64
	CPUWithheld           float64 // cores that it wants and does not get
	MemoryWithheld        int64
	CPUPressure           *float64 // share of time, 0..1; nil: not measured
	MemPressure, IOPress  *float64
	HasMemory, HasDetails bool // Usage is known; Cache and Hard are
}

// detailGauges are of one container, labelled with its name.
func detailGauges() []gauge[ContainerView] {
	type c = ContainerView
	const label = "container"
	positive := func(v float64) (float64, bool) { return v, v > 0 }
	of := func(name, help string, get func(c) (float64, bool)) gauge[c] {
		return describeGauge(name, help, get, label)
	}
	total := func(name, help string, get func(c) float64) gauge[c] {
		g := of(name, help, func(v c) (float64, bool) { return known(get(v)) })
		g.kind = prometheus.CounterValue
		return g
	}
	pressure := func(resource string, get func(c) *float64) gauge[c] {
		g := describeGauge("container_pressure_ratio",
			"Share of the last ten seconds in which a process waited for a resource; absent when not measured.",
			func(v c) (float64, bool) { return cores(get(v)) }, label, "resource")
		g.extra = []string{resource}
		return g
	}
	return []gauge[c]{
		of("container_memory_usage_bytes", "Memory in use, with page cache.",
			func(v c) (float64, bool) { return float64(v.Detail.Usage), v.Detail.HasMemory }),
		of("container_memory_cache_bytes", "Page cache that can be reclaimed.",
			func(v c) (float64, bool) { return float64(v.Detail.Cache), v.Detail.HasDetails }),
		of("container_memory_unreclaimable_bytes", "Memory in use that cannot be reclaimed.",
			func(v c) (float64, bool) { return float64(v.Detail.Hard), v.Detail.HasDetails }),
		of("container_cpu_floor_cores", "Lowest CPU limit that the service's past allows.",
			func(v c) (float64, bool) { return positive(v.Detail.CPUFloor) }),
		of("container_cpu_ceiling_cores", "Highest CPU limit; absent when not known yet.",
			func(v c) (float64, bool) { return positive(v.Detail.CPUCeiling) }),
		of("container_memory_floor_bytes", "Lowest memory limit that the service's past allows.",
			func(v c) (float64, bool) { return positive(float64(v.Detail.MemFloor)) }),
		of("container_memory_ceiling_bytes", "Highest memory limit; absent when not known yet.",
			func(v c) (float64, bool) { return positive(float64(v.Detail.MemCeiling)) }),
		of("container_cpu_not_granted_cores", "Cores that a managed container wants above its limit and does not get.",
			func(v c) (float64, bool) { return v.Detail.CPUWithheld, v.Managed }),
		of("container_memory_not_granted_bytes", "Memory that a managed container wants above its limit and does not get.",
			func(v c) (float64, bool) { return float64(v.Detail.MemoryWithheld), v.Managed }),
		pressure("cpu", func(v c) *float64 { return v.Detail.CPUPressure }),
		pressure("memory", func(v c) *float64 { return v.Detail.MemPressure }),
		pressure("io", func(v c) *float64 { return v.Detail.IOPress }),
		total("container_oom_kills_total",
			"Processes that the kernel killed for want of memory, over restarts of the container.",
			func(v c) float64 { return float64(v.Detail.OOMKills) }),
		total("container_restarts_total", "Restarts of the container by the Docker Engine.",
			func(v c) float64 { return float64(v.Detail.Restarts) }),
	}
}

// maxLabel bounds the value of a label that a user writes.
const maxLabel = 256

func labelValue(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLabel)], "?") }

// describeContainer sends what a container is, and its state.
func describeContainer(ch chan<- prometheus.Metric, v ContainerView, name, owner string) {
	one := func(d *prometheus.Desc, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, 1, labels...)
	}
	one(infoDesc, name, labelValue(v.Service), v.Class, v.Mode, labelValue(owner), labelValue(v.Detail.Image))
	if v.State != "" {
		one(stateDesc, name, labelValue(v.State))
	}
}

// The kinds of problems.
const (
	ProblemLabel      = "label"      // a label cannot be read
	ProblemUnmeasured = "unmeasured" // a container cannot be measured
	ProblemActuator   = "actuator"   // its quota file cannot be written
	ProblemStart      = "start"      // the Engine would refuse to start it again
	ProblemClaimed    = "claimed"    // another daemon has it
	ProblemLimited    = "limited"    // a limit does not grow as planned
	ProblemLeak       = "leak"       // its memory grows without an end
	ProblemExternal   = "external"   // others set a limit outside its bounds
	ProblemEnded      = "ended"      // a container is in a crash loop, or ended by itself
	ProblemUnhealthy  = "unhealthy"  // its health check fails
	ProblemHost       = "host"       // its CPU or memory is full
	ProblemOriginal   = "original"   // the original limits are lost
	ProblemEngine     = "engine"     // it does not answer, or refuses
	ProblemStore      = "store"      // the knowledge file
	ProblemCrashes    = "crashes"    // safe mode
	ProblemSamples    = "samples"    // not from kernel files
	ProblemCluster    = "cluster"
	// ProblemCertificate: the certificate of the services is not valid, or not for long.
	ProblemCertificate = "certificate"
)

// problemCounts sends the count of each kind; none is 0.
func problemCounts(ch chan<- prometheus.Metric, kinds map[string]int) {
	counts := map[string]uint64{}
	for _, kind := range []string{ProblemLabel, ProblemUnmeasured, ProblemActuator, ProblemStart, ProblemClaimed,
		ProblemLimited, ProblemLeak, ProblemExternal, ProblemEnded, ProblemUnhealthy,
		ProblemHost, ProblemOriginal, ProblemEngine, ProblemStore, ProblemCrashes,
		ProblemSamples, ProblemCluster, ProblemCertificate} {
		counts[kind] = 0
	}
	for kind, n := range kinds {
		counts[kind] = uint64(max(n, 0))
	}
	for kind, n := range bounded(counts) {
		ch <- prometheus.MustNewConstMetric(problemsDesc, prometheus.GaugeValue, float64(n), kind)
	}
}
