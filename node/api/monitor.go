package api

import (
	"context"
	"math"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// out is a JSON answer; handle describes what it holds.
type out struct{ Body any }

// handle registers a typed call: its route, and in the description its request and answer.
func handle[In, R any](api huma.API, op huma.Operation, do func(context.Context, *In) (R, error)) {
	answer := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[R](), true, op.OperationID+"Response")
	op.Responses = map[string]*huma.Response{"200": {Content: jsonOf(answer)}}
	op.Middlewares = huma.Middlewares{strictly[In]}
	huma.Register(api, op, func(ctx context.Context, in *In) (*out, error) {
		r, err := do(ctx, in)
		if err != nil {
			return nil, wire(err)
		}
		return &out{Body: r}, nil
	})
}

// containerIn is a call about one container. Of its numbers a call takes the one that is
// named to about. Windows are bounded to 31 days: series are kept for a month.
type containerIn struct {
	Container  string `path:"container_id" doc:"A full id, a prefix of at least 12 hex digits, or an exact name"`
	Window     int    `query:"prediction_window" default:"300" minimum:"1" maximum:"2678400" doc:"Seconds ahead"`
	TimeWindow int    `query:"time_window" default:"300" minimum:"1" maximum:"2678400" doc:"Seconds"`
	Limit      int    `query:"limit" default:"100" minimum:"1" maximum:"10000"`
}

// about registers a call about one container that takes no number, or that of query.
func about[R any](api huma.API, op huma.Operation, query string, do func(context.Context, *containerIn) (R, error)) {
	handle(api, op, func(ctx context.Context, in *containerIn) (r R, err error) {
		if err := CheckRef(in.Container); err != nil {
			return r, err
		}
		return do(ctx, in)
	})
	for _, at := range operations(api.OpenAPI().Paths[op.Path]) {
		at.Parameters = slices.DeleteFunc(at.Parameters, func(p *huma.Param) bool {
			return p.In == "query" && p.Name != query
		})
	}
}

// statusMessage is the answer of calls that only report a result.
type statusMessage struct {
	Status  string `json:"status" enum:"running,success,warning,registered"`
	Message string `json:"message,omitempty"`
	Service string `json:"service,omitempty"`
}

// spread is the statistics of one series; std is the population's.
type spread struct {
	Mean float64 `json:"mean"`
	Max  float64 `json:"max"`
	Min  float64 `json:"min"`
	Std  float64 `json:"std"`
}

// spreads is empty when there was no sample.
type spreads struct {
	CPU    *spread `json:"cpu,omitempty"`
	Memory *spread `json:"memory,omitempty"`
}

type metricHistory struct {
	ContainerID string   `json:"container_id"`
	TimeWindow  int      `json:"time_window"`
	Metrics     []Metric `json:"metrics" nullable:"false"`
	Statistics  spreads  `json:"statistics"`
}

type forecast struct {
	CPU    []float64 `json:"cpu_usage" nullable:"false" doc:"Cores in use"`
	Memory []float64 `json:"memory_usage" nullable:"false" doc:"Share of the limit"`
}

// prediction has a status only when there is too little data.
type prediction struct {
	Status      string    `json:"status,omitempty" enum:"insufficient_data"`
	ContainerID string    `json:"container_id,omitempty"`
	Window      int       `json:"prediction_window,omitempty"`
	Predictions *forecast `json:"predictions,omitempty"`
}

// monitor is the service of measurements.
type monitor struct{ b MonitorBackend }

func (m monitor) register(api huma.API) {
	handle(api, get("root", "/", "Name and state of the service"),
		func(context.Context, *struct{}) (statusMessage, error) {
			return statusMessage{Status: "running", Service: "Container Monitoring"}, nil
		})
	about(api, get("metrics", "/metrics/{container_id}", "The newest metrics of a container"), "", m.metric)
	about(api, get("metricHistory", "/metrics/{container_id}/history", "Metrics over a window, with statistics"),
		"time_window", m.history)
	about(api, post("startMonitoring", "/monitor/start/{container_id}", "Start monitoring a container"), "",
		m.watch(true, "Monitoring started", "Already monitoring"))
	about(api, post("stopMonitoring", "/monitor/stop/{container_id}", "Stop monitoring a container"), "",
		m.watch(false, "Monitoring stopped", "Not monitoring"))
	about(api, get("predictions", "/predictions/{container_id}", "Forecast of the use of a container"),
		"prediction_window", m.predict)
}

func (m monitor) metric(ctx context.Context, in *containerIn) (Metric, error) {
	v, err := m.b.Metric(ctx, in.Container)
	return echoed(v, in.Container), err
}

// echoed gives a metric the reference that it was asked for by.
func echoed(v Metric, ref string) Metric {
	v.ContainerID, v.Timestamp = ref, v.Timestamp.UTC()
	return v
}

func (m monitor) history(ctx context.Context, in *containerIn) (metricHistory, error) {
	all, err := m.b.Metrics(ctx, in.Container, time.Duration(in.TimeWindow)*time.Second)
	h := metricHistory{ContainerID: in.Container, TimeWindow: in.TimeWindow, Metrics: make([]Metric, len(all))}
	for i, v := range all {
		h.Metrics[i] = echoed(v, in.Container)
	}
	h.Statistics.CPU = spreadOf(all, func(v Metric) float64 { return v.CPUUsage })
	h.Statistics.Memory = spreadOf(all, func(v Metric) float64 { return v.MemoryUsage })
	return h, err
}

// spreadOf is nil for no sample. Welford's method: no sum of squares to cancel.
func spreadOf(all []Metric, of func(Metric) float64) *spread {
	if len(all) == 0 {
		return nil
	}
	s := spread{Max: math.Inf(-1), Min: math.Inf(1)}
	var m2 float64
	for i, m := range all {
		v := of(m)
		delta := v - s.Mean
		s.Mean += delta / float64(i+1)
		m2 += delta * (v - s.Mean)
		s.Max, s.Min = max(s.Max, v), min(s.Min, v)
	}
	s.Std = math.Sqrt(m2 / float64(len(all)))
	return &s
}

func (m monitor) watch(on bool, done, already string) func(context.Context, *containerIn) (statusMessage, error) {
	return func(ctx context.Context, in *containerIn) (statusMessage, error) {
		if was, err := m.b.Watch(ctx, in.Container, on); was || err != nil {
			return statusMessage{Status: "warning", Message: already}, err
		}
		return statusMessage{Status: "success", Message: done}, nil
	}
}

func (m monitor) predict(ctx context.Context, in *containerIn) (prediction, error) {
	p, err := m.b.Predict(ctx, in.Container, time.Duration(in.Window)*time.Second)
	if p.Insufficient {
		return prediction{Status: "insufficient_data"}, err
	}
	return prediction{
		ContainerID: in.Container,
		Window:      in.Window,
		Predictions: &forecast{CPU: listed(p.CPU), Memory: listed(p.Memory)},
	}, err
}

// listed makes no list an empty one: clients of the original iterate over it.
func listed[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func get(id, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Summary: summary,
		MaxBodyBytes: maxBody + 1, BodyReadTimeout: -1, // admitBody has read it, bounded and in time
	}
}

func post(id, path, summary string) huma.Operation {
	op := get(id, path, summary)
	op.Method = http.MethodPost
	return op
}
