package api

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// maxWords bounds the values of each label; further ones are "other".
const maxWords = 128

const other = "other"

// words bounds one label.
type words struct {
	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

func (w *words) bounded(s string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	if !w.seen[s] {
		if len(w.seen) >= maxWords || checkName(s) != nil {
			return other
		}
		w.seen[s] = true
	}
	return s
}

// httpCounts are the requests of one service, on its own page.
type httpCounts struct {
	registry          *prometheus.Registry
	requests, refused *prometheus.CounterVec
}

func newHTTPCounts() *httpCounts {
	c := &httpCounts{
		registry: prometheus.NewRegistry(),
		requests: counters("http_requests_total", "Requests of a service or the socket.", "service", "code"),
		refused: counters("http_refused_total", "Requests refused before they reached an operation.", "service",
			"code"),
	}
	c.registry.MustRegister(c.requests, c.refused)
	return c
}

// Metrics counts what the daemon does, in a registry of its own. Its methods may
// be called from any goroutine; no label grows without a bound.
type Metrics struct {
	registry *prometheus.Registry
	http     map[string]*httpCounts // by service; the socket is one

	loop        *prometheus.HistogramVec
	loopSuccess *prometheus.GaugeVec
	engine      *prometheus.HistogramVec
	actions     *prometheus.CounterVec
	actionTime  *prometheus.HistogramVec
	decisions   *prometheus.CounterVec
	rejected    *prometheus.CounterVec
	drift       prometheus.Counter
	commit      prometheus.Histogram
	commitFails prometheus.Counter
	saved       savings
	reloadOK    prometheus.Gauge
	reloadAt    prometheus.Gauge

	phases, ops, kinds, results, resources, directions, rules, whys words

	mu        sync.Mutex
	collector *collector // guarded by mu
}

// savings are two totals of each resource, because a counter only grows: what was saved in all
// is the difference.
type savings struct{ lessCPU, moreCPU, lessMemory, moreMemory prometheus.Counter }

func newSavings() savings {
	const less = " less reserved than by the original limits; less what was added: saved in all."
	const more = " more reserved than by the original limits."
	return savings{
		lessCPU:    counter("saved_cpu_core_seconds_total", "Core-seconds"+less),
		moreCPU:    counter("added_cpu_core_seconds_total", "Core-seconds"+more),
		lessMemory: counter("saved_memory_byte_seconds_total", "Byte-seconds"+less),
		moreMemory: counter("added_memory_byte_seconds_total", "Byte-seconds"+more),
	}
}

// NewMetrics makes a registry with the Go, process and build collectors in it.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), http: map[string]*httpCounts{}, saved: newSavings()}
	for _, service := range []string{Monitor, Controller, Execution, socketName} {
		m.http[service] = newHTTPCounts()
	}
	buckets := prometheus.ExponentialBuckets(100e-6, 4, 9) // 0.1 ms to 6.6 s
	m.loop = histogram("loop_duration_seconds", "Duration of one pass of a loop.", buckets, "phase")
	m.loopSuccess = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "effiscale_loop_last_success_timestamp_seconds", Help: "Time of the last successful pass of a loop.",
	}, []string{"phase"})
	m.engine = histogram("docker_request_duration_seconds",
		"Duration of requests to the Docker Engine; code 0: no answer.",
		prometheus.ExponentialBuckets(1e-3, 4, 8), "op", "code")
	m.actions = counters("actions_total", "Changes of containers, by resource or kind and result.", "kind", "result")
	m.actionTime = histogram("action_duration_seconds", "Time from sending a change to its verification.", buckets, "kind")
	m.decisions = counters("decisions_total", "Decisions, by direction, resource and rule.",
		"direction", "resource", "reason")
	m.rejected = counters("samples_rejected_total", "Invalid samples, which are dropped.", "why")
	m.drift = counter("drift_repairs_total", "Limits that drifted from the decided value and were restored.")
	m.commit = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "effiscale_store_commit_duration_seconds", Help: "Duration of a commit to the store.", Buckets: buckets,
	})
	m.commitFails = counter("store_commit_errors_total", "Failed commits to the store.")
	m.reloadOK = plainGauge("config_last_reload_successful", "1 when the last read of the configuration succeeded.")
	m.reloadAt = plainGauge("config_last_reload_success_timestamp_seconds",
		"Time of the last successful read of the configuration.")
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "effiscale_build_info", Help: "1, labelled with the version of the daemon.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, m.loop, m.loopSuccess, m.engine, m.actions, m.actionTime, m.decisions, m.rejected, m.drift,
		m.commit, m.commitFails, m.saved.lessCPU, m.saved.moreCPU, m.saved.lessMemory, m.saved.moreMemory,
		m.reloadOK, m.reloadAt)
	return m
}

// page gathers the metrics of one service's page. One page has all of the daemon's, so that
// the sum over the three pages counts everything once.
func (m *Metrics) page(service string, whole bool) prometheus.Gatherer {
	if !whole {
		return m.http[service].registry
	}
	return prometheus.Gatherers{m.registry, m.http[service].registry, m.http[socketName].registry}
}

func plainGauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: "effiscale_" + name, Help: help})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "effiscale_" + name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "effiscale_" + name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	o := prometheus.HistogramOpts{Name: "effiscale_" + name, Help: help, Buckets: buckets}
	return prometheus.NewHistogramVec(o, labels)
}

// ObserveLoop counts one pass of a phase of a loop.
func (m *Metrics) ObserveLoop(phase string, took time.Duration) {
	m.loop.WithLabelValues(m.phases.bounded(phase)).Observe(took.Seconds())
}

// LoopSuccess notes when a phase last ended well.
func (m *Metrics) LoopSuccess(phase string, at time.Time) {
	m.loopSuccess.WithLabelValues(m.phases.bounded(phase)).Set(float64(at.UnixMilli()) / 1000)
}

// ObserveEngine counts a call of the Docker Engine; code is the HTTP status, 0
// when there was no answer.
func (m *Metrics) ObserveEngine(op string, code int, took time.Duration) {
	m.engine.WithLabelValues(m.ops.bounded(op), statusLabel(code)).Observe(took.Seconds())
}

// statusLabel keeps codes to what HTTP has.
func statusLabel(code int) string {
	if code < 0 || code > 599 {
		return other
	}
	return strconv.Itoa(code)
}

// Action counts a change that ended; kind is the resource or what was done. A
// took of 0 was not measured and leaves the durations alone.
func (m *Metrics) Action(kind, result string, took time.Duration) {
	kind = m.kinds.bounded(kind)
	m.actions.WithLabelValues(kind, m.results.bounded(result)).Inc()
	if took > 0 {
		m.actionTime.WithLabelValues(kind).Observe(took.Seconds())
	}
}

// Decision counts a decision: its verb, resource and rule.
func (m *Metrics) Decision(direction, resource, rule string) {
	m.decisions.WithLabelValues(m.directions.bounded(direction), m.resources.bounded(resource),
		m.rules.bounded(rule)).Inc()
}

// Rejected counts a reading that was dropped.
func (m *Metrics) Rejected(why string) {
	m.rejected.WithLabelValues(m.whys.bounded(why)).Inc()
}

// DriftRepaired counts a limit that was put back.
func (m *Metrics) DriftRepaired() { m.drift.Inc() }

// StoreCommit counts a commit to the store.
func (m *Metrics) StoreCommit(took time.Duration, err error) {
	m.commit.Observe(took.Seconds())
	if err != nil {
		m.commitFails.Inc()
	}
}

// Saved adds what was reserved less than originally for a while: cores and bytes; negative:
// more.
func (m *Metrics) Saved(cores float64, bytes int64, lasted time.Duration) {
	add := func(less, more prometheus.Counter, v float64) {
		if v > 0 {
			less.Add(v)
		} else {
			more.Add(-v)
		}
	}
	add(m.saved.lessCPU, m.saved.moreCPU, cores*lasted.Seconds())
	add(m.saved.lessMemory, m.saved.moreMemory, float64(bytes)*lasted.Seconds())
}

// Reloaded notes how a read of the configuration ended.
func (m *Metrics) Reloaded(err error, at time.Time) {
	if err != nil {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadAt.Set(float64(at.UnixMilli()) / 1000)
}

func (m *Metrics) request(service string, code int) {
	m.http[service].requests.WithLabelValues(service, statusLabel(code)).Inc()
}

func (m *Metrics) refusedRequest(service string, code int) {
	m.http[service].refused.WithLabelValues(service, statusLabel(code)).Inc()
}

// watch adds the gauges that are read from the daemon's status at each scrape.
func (m *Metrics) watch(n NodeBackend) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.collector != nil {
		return errors.New("cannot serve metrics: another server has this Metrics already")
	}
	c := newCollector(n)
	if err := m.registry.Register(c); err != nil {
		return fmt.Errorf("cannot serve metrics: %w", err)
	}
	m.collector = c
	return nil
}

// unwatch takes them away again.
func (m *Metrics) unwatch() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.collector != nil {
		m.registry.Unregister(m.collector)
		m.collector = nil
	}
}
