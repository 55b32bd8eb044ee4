package knowledge

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ServicePolicy is the part of a container's labels about its service as a whole: how
// many replicas, and how traffic reaches them. A nil or zero field has no label.
type ServicePolicy struct {
	Replicas *ReplicaRange
	Target   ReplicaTarget
	Port     int // on which the container serves
	Listen   Listen
	// Drain is how long a replica finishes its requests before it is stopped.
	Drain *time.Duration
	// ReadyAfter is how long a replica without a health check runs before it gets traffic.
	ReadyAfter *time.Duration
}

// ReplicaRange bounds the number of replicas.
type ReplicaRange struct{ Min, Max int }

// String is the value of the label.
func (r ReplicaRange) String() string { return fmt.Sprintf("%d..%d", r.Min, r.Max) }

// TargetSignal is what a number of replicas follows.
type TargetSignal uint8

// The signals.
const (
	TargetNone        TargetSignal = iota
	TargetCPU                      // use of the CPU limit
	TargetRequests                 // requests a second
	TargetConcurrency              // requests in progress
	TargetLatency                  // a quantile of the response time
)

// ReplicaTarget is the value of a signal, for each replica, that the number of
// replicas aims for.
type ReplicaTarget struct {
	Signal TargetSignal
	// Value is a share from 0 to 1, or a number of requests; 0 for a latency.
	Value float64
	// Quantile (0.95) and Latency are of TargetLatency.
	Quantile float64
	Latency  time.Duration
}

// String is the value of the label; empty: there is none.
func (t ReplicaTarget) String() string {
	number := strconv.FormatFloat(t.Value, 'g', -1, 64)
	switch t.Signal {
	case TargetCPU:
		return fmt.Sprintf("cpu=%.4g%%", t.Value*100)
	case TargetRequests:
		return "rps=" + number
	case TargetConcurrency:
		return "concurrency=" + number
	case TargetLatency:
		return fmt.Sprintf("latency_p%.4g=%s", t.Quantile*100, t.Latency)
	}
	return ""
}

// Listen is where clients reach a service.
type Listen struct {
	Scheme string // "http" or "https"; empty: TCP
	Host   string // of TCP: the address to bind, empty: all; else the host of requests
	Port   int    // 0: none is set
	Path   string // prefix of the requests' path
}

// String is the value of the label; empty: there is none.
func (l Listen) String() string {
	if l == (Listen{}) {
		return ""
	}
	host := l.Host
	if strings.Contains(host, ":") { // IPv6
		host = "[" + host + "]"
	}
	if l.Scheme == "" || l.Port > 0 {
		host += ":" + strconv.Itoa(l.Port)
	}
	if l.Scheme == "" {
		return host
	}
	return l.Scheme + "://" + host + l.Path
}
