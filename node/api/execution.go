package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// resources are the limits that a client asks for; null leaves one alone. The
// bounds are knowledge.MaxCPU and knowledge.MaxBytes. Memory is any number: clients of the
// original service send a limit times 1.5. A float64 is exact up to 8 PiB.
type resources struct {
	_      struct{} `nullable:"true" additionalProperties:"false"`
	CPU    *float64 `json:"cpu,omitempty" exclusiveMinimum:"0" maximum:"4096" doc:"Cores"`
	Memory *float64 `json:"memory,omitempty" minimum:"1" maximum:"1125899906842624" doc:"Bytes; a fraction is cut off"`
}

type verticalIn struct {
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"The same key within a day returns the same result"`
	Body struct {
		_         struct{}   `additionalProperties:"false"`
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
		_         struct{} `additionalProperties:"false"`
		Container string   `json:"container_id"`
		Direction string   `json:"direction" enum:"out,in"`
		Replicas  int      `json:"replicas" minimum:"0" maximum:"1000" doc:"out adds so many, in goes down to so many"`
	}
}

type replicated struct {
	Status string              `json:"status" enum:"success"`
	Result map[string][]string `json:"result" doc:"new_containers or removed_containers"`
}

type records struct {
	History []WireRecord `json:"history" nullable:"false"`
}

// execution is the service that changes limits, and lists changes.
type execution struct{ b ExecutionBackend }

func (e execution) register(api huma.API) {
	handle(api, post("scaleVertical", "/scale/vertical", "Change the limits of a container"), e.vertical)
	handle(api, post("scaleHorizontal", "/scale/horizontal", "Change the number of replicas"), e.horizontal)
	about(api, get("scalingHistory", "/history/{container_id}", "Changes of a container, newest first"),
		"limit", e.history)
}

func (e execution) vertical(ctx context.Context, in *verticalIn) (scaled, error) {
	q := ScaleRequest{Container: in.Body.Container, Direction: in.Body.Direction, By: caller(ctx), Key: in.Key}
	if r := in.Body.Resources; r != nil {
		if r.CPU != nil {
			q.CPU = *r.CPU
		}
		if r.Memory != nil {
			q.Memory = int64(*r.Memory)
		}
		if q.CPU == 0 && q.Memory == 0 {
			return scaled{}, Errorf(KindInvalid, "body.resources: is empty: give cpu (cores), memory (bytes) or both, "+
				"or leave resources out: up is x1.5, down is x0.7 of both")
		}
	}
	if err := CheckRef(q.Container); err != nil {
		return scaled{}, err
	}
	if err := OpScale.Check(q); err != nil {
		return scaled{}, err
	}
	res, err := e.b.Scale(ctx, q)
	return scaled{Status: "success", Result: res}, err
}

func (e execution) horizontal(ctx context.Context, in *horizontalIn) (replicated, error) {
	b := in.Body
	if err := CheckRef(b.Container); err != nil {
		return replicated{}, err
	}
	if b.Direction == "out" && b.Replicas < 1 {
		return replicated{}, Errorf(KindInvalid, "body.replicas: out adds at least 1")
	}
	if in.Key != "" && checkName(in.Key) != nil {
		return replicated{}, Errorf(KindInvalid, "Idempotency-Key: at most 128 printable characters")
	}
	ids, err := e.b.Replicate(ctx, ReplicaRequest{Container: b.Container, Direction: b.Direction,
		Replicas: b.Replicas, By: caller(ctx), Key: in.Key})
	key := "new_containers"
	if b.Direction == "in" {
		key = "removed_containers"
	}
	return replicated{Status: "success", Result: map[string][]string{key: listed(ids)}}, err
}

func (e execution) history(ctx context.Context, in *containerIn) (records, error) {
	all, err := e.b.WireHistory(ctx, in.Container, in.Limit)
	if KindOf(err) == KindNotFound && err != nil {
		all, err = nil, nil // nothing known: an empty list
	}
	h := records{History: make([]WireRecord, len(all))}
	for i, r := range all {
		r.ContainerID, r.Timestamp = in.Container, r.Timestamp.In(time.UTC)
		h.History[i] = r
	}
	return h, err
}
