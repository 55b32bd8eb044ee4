package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// resources are the limits that a client asks for; null leaves one alone. The
// bounds are knowledge.MaxCPU and knowledge.MaxBytes.
type resources struct {
	_      struct{} `nullable:"true"`
	CPU    *float64 `json:"cpu,omitempty" exclusiveMinimum:"0" maximum:"4096" doc:"Cores"`
	Memory *int64   `json:"memory,omitempty" exclusiveMinimum:"0" maximum:"1125899906842624" doc:"Bytes"`
}

type verticalIn struct {
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"The same key within a day returns the same result"`
	Body struct {
		Container string     `json:"container_id"`
		Direction string     `json:"direction" enum:"up,down"`
		Resources *resources `json:"resources,omitempty" doc:"Exact limits; without: up is x1.5, down is x0.7 of both"`
	}
}

type scaled struct {
	Status string      `json:"status" enum:"success"`
	Result ScaleResult `json:"result"`
}

type horizontalIn struct {
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"The same key within a day returns the same result"`
	Body struct {
		Container string `json:"container_id"`
		Direction string `json:"direction" enum:"out,in"`
		Replicas  int    `json:"replicas" minimum:"0" maximum:"1000" doc:"out adds so many, in goes down to so many"`
	}
}

type replicated struct {
	Status string              `json:"status" enum:"success"`
	Result map[string][]string `json:"result" doc:"new_containers or removed_containers"`
}

type records struct {
	History []WireRecord `json:"history" nullable:"false"`
}

// execution is the service that acts, and tells what was done.
type execution struct{ d Daemon }

func (e execution) register(api huma.API) {
	huma.Register(api, answers[scaled](api, post("scaleVertical", "/scale/vertical", "Change the limits of a container")), e.vertical)
	huma.Register(api, answers[replicated](api, post("scaleHorizontal", "/scale/horizontal", "Change the number of replicas")), e.horizontal)
	about(api, answers[records](api, get("scalingHistory", "/history/{container_id}", "What was done to a container, newest first")), "limit", e.history)
}

func (e execution) vertical(ctx context.Context, in *verticalIn) (*out, error) {
	r := ScaleRequest{Container: in.Body.Container, Direction: in.Body.Direction, By: caller(ctx), Key: in.Key}
	if res := in.Body.Resources; res != nil {
		if res.CPU != nil {
			r.CPU = *res.CPU
		}
		if res.Memory != nil {
			r.Memory = *res.Memory
		}
	}
	if err := CheckRef(r.Container); err != nil {
		return nil, wire(err)
	}
	if p := checkScale(r); p != nil {
		return nil, p
	}
	res, err := e.d.Scale(ctx, r)
	if err != nil {
		return nil, wire(err)
	}
	return reply(scaled{Status: "success", Result: res})
}

// CheckScale checks the form of a request that came another way than over the API.
func CheckScale(r ScaleRequest) error {
	if p := checkScale(r); p != nil {
		return Errorf(KindBadRequest, "%s", p.Detail)
	}
	return nil
}

// checkScale checks the form of a request before the daemon is asked.
func checkScale(r ScaleRequest) *problem {
	switch {
	case CheckPlace(r.Container) != nil:
		return wire(CheckPlace(r.Container))
	case r.Direction != "" && r.Direction != "up" && r.Direction != "down":
		return refuse(http.StatusUnprocessableEntity, `direction: must be "up" or "down"`)
	case !(r.CPU >= 0 && r.CPU <= 4096): // NaN too
		return refuse(http.StatusUnprocessableEntity, "cpu: must be more than 0 and at most 4096 cores")
	case r.Memory < 0 || r.Memory > 1<<50:
		return refuse(http.StatusUnprocessableEntity, "memory: must be more than 0 and at most 1024 TiB, in bytes")
	case r.Key != "" && checkName(r.Key) != nil:
		return refuse(http.StatusUnprocessableEntity, "Idempotency-Key: at most 128 printable characters")
	case r.Direction == "" && r.CPU == 0 && r.Memory == 0:
		return refuse(http.StatusUnprocessableEntity, "nothing is asked for: give cpu, memory or a direction")
	}
	return nil
}

func (e execution) horizontal(ctx context.Context, in *horizontalIn) (*out, error) {
	b := in.Body
	if err := CheckRef(b.Container); err != nil {
		return nil, wire(err)
	}
	if b.Direction == "out" && b.Replicas < 1 {
		return nil, refuse(http.StatusUnprocessableEntity, "body.replicas: out adds at least 1")
	}
	if in.Key != "" && checkName(in.Key) != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "Idempotency-Key: at most 128 printable characters")
	}
	ids, err := e.d.Replicate(ctx, ReplicaRequest{Container: b.Container, Direction: b.Direction, Replicas: b.Replicas, By: caller(ctx), Key: in.Key})
	if err != nil {
		return nil, wire(err)
	}
	key := "new_containers"
	if b.Direction == "in" {
		key = "removed_containers"
	}
	return reply(replicated{Status: "success", Result: map[string][]string{key: listed(ids)}})
}

func (e execution) history(ctx context.Context, in *containerIn) (*out, error) {
	if err := CheckRef(in.Container); err != nil {
		return nil, wire(err)
	}
	all, err := e.d.WireHistory(ctx, in.Container, in.Limit)
	if KindOf(err) == KindNotFound && err != nil {
		all, err = nil, nil // nothing known: an empty list
	}
	if err != nil {
		return nil, wire(err)
	}
	h := records{History: make([]WireRecord, len(all))}
	for i, r := range all {
		r.ContainerID, r.Timestamp = in.Container, r.Timestamp.In(time.UTC)
		h.History[i] = r
	}
	return reply(h)
}
