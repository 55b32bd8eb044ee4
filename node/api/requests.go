package api

import (
	"encoding/base64"
	"net"
	"strconv"
	"strings"
	"time"
)

// ExplainRequest names a container: NAME or HOST/NAME.
type ExplainRequest struct {
	Name string `path:"name"`
}

func checkExplain(q ExplainRequest) error { return CheckPlace(q.Name) }

// RecordsRequest asks for the history of a container or a service, newest first.
type RecordsRequest struct {
	Name  string `path:"name" json:"name"`
	Limit int    `query:"limit" json:"limit"` // 0: the daemon's own
}

// AllRecordsRequest asks for the history of everything, newest first.
type AllRecordsRequest struct {
	Limit int `query:"limit"` // 0: the daemon's own
}

// MaxRecords bounds the changes in one answer.
const MaxRecords = 10_000

func checkRecords(q RecordsRequest) error {
	if err := checkPlace(q.Name); err != nil {
		return err
	}
	return checkLimit(q.Limit)
}

func checkAllRecords(q AllRecordsRequest) error { return checkLimit(q.Limit) }

func checkLimit(limit int) error {
	if limit < 0 || limit > MaxRecords {
		return Errorf(KindInvalid, "limit: must be from 0 (the daemon's own) to %d", MaxRecords)
	}
	return nil
}

// PlanRequest asks for a plan. The zero value is the plan of the host that is asked.
type PlanRequest struct {
	Name     string `query:"name"` // a container or a service, on whichever hosts; HOST/NAME: on that one
	AllHosts bool   `query:"all_hosts"`
}

func checkPlan(q PlanRequest) error {
	switch {
	case q.Name == "":
		return nil
	case q.AllHosts:
		return Errorf(KindInvalid, "name: must be empty with all_hosts")
	}
	return checkPlace(q.Name)
}

// TraceRequest asks for recorded demand.
type TraceRequest struct {
	Name     string        `path:"name"`      // of a container or a service
	Resource string        `query:"resource"` // "cpu", "memory"
	Since    time.Duration `query:"since"`    // how far back from now
}

// maxSince is how far back a trace may reach: series are kept for a month.
const maxSince = 31 * 24 * time.Hour

func checkTrace(q TraceRequest) error {
	if err := checkPlace(q.Name); err != nil {
		return err
	}
	if q.Resource != "cpu" && q.Resource != "memory" {
		return Errorf(KindInvalid, "resource: must be cpu or memory")
	}
	if q.Since < time.Second || q.Since > maxSince {
		return Errorf(KindInvalid, "since: must be seconds from 1 to %.0f", maxSince.Seconds())
	}
	return nil
}

// ScaleRequest sets limits of one container. Zero leaves a resource alone.
type ScaleRequest struct {
	Container string  `json:"container"` // as the user wrote it
	Direction string  `json:"direction"` // "up", "down", or "" for exact
	CPU       float64 `json:"cpu"`       // cores
	Memory    int64   `json:"memory"`    // bytes
	DryRun    bool    `json:"dry_run"`
	Key       string  `json:"key"`          // Idempotency-Key header; the same key within a day returns the same result
	By        string  `json:"by,omitempty"` // the client, for the history; a daemon replaces what a client sends
}

// SetCaller takes the name of the client, for the history.
func (q *ScaleRequest) SetCaller(by string) { q.By = by }

func checkScale(q ScaleRequest) error {
	if err := CheckPlace(q.Container); err != nil {
		return err
	}
	switch {
	case q.Direction != "" && q.Direction != "up" && q.Direction != "down":
		return Errorf(KindInvalid, `direction: must be "up" or "down"`)
	case !(q.CPU >= 0 && q.CPU <= 4096): // NaN too
		return Errorf(KindInvalid, "cpu: must be more than 0 and at most 4096 cores")
	case q.Memory < 0 || q.Memory > 1<<50:
		return Errorf(KindInvalid, "memory: must be more than 0 and at most 1024 TiB, in bytes")
	case q.Key != "" && checkName(q.Key) != nil:
		return Errorf(KindInvalid, "Idempotency-Key: at most 128 printable characters")
	case q.Direction == "" && q.CPU == 0 && q.Memory == 0:
		return Errorf(KindInvalid, "empty request: give cpu, memory or a direction")
	}
	return nil
}

// ReplicaRequest asks for more or fewer containers of a service: POST /scale/horizontal.
type ReplicaRequest struct {
	Container string // one container of the service, as the user wrote it
	Direction string // "out" adds Replicas, "in" goes down to Replicas
	Replicas  int
	By        string
	Key       string
}

// PauseRequest pauses (or with Resume resumes) automation of a service on every host that
// runs it. HOST/NAME means that host alone.
type PauseRequest struct {
	Service  string        `json:"service"`   // or a container of it; "" with All or AllHosts
	For      time.Duration `json:"for"`       // 0: until resumed
	OnlyDown bool          `json:"only_down"` // growth stays allowed
	Resume   bool          `json:"resume"`
	All      bool          `json:"all,omitempty"`       // every service of the host that is asked
	AllHosts bool          `json:"all_hosts,omitempty"` // every service of every host
}

// maxPause is a year; longer is what "until resumed" is for.
const maxPause = 366 * 24 * time.Hour

func checkPause(q PauseRequest) error {
	switch {
	case q.Service != "" && (q.All || q.AllHosts) || q.All && q.AllHosts:
		return Errorf(KindInvalid, "service: either one, or all, or all_hosts")
	case q.For < 0 || q.For > maxPause:
		return Errorf(KindInvalid, "for: must be at most a year; without it the pause lasts until resumed")
	case q.All || q.AllHosts:
		return nil
	}
	return checkPlace(q.Service)
}

// RestoreRequest names a container; "": all of the host that is asked.
type RestoreRequest struct {
	Container string `json:"container"`
}

func checkRestore(q RestoreRequest) error {
	if q.Container == "" {
		return nil
	}
	return CheckPlace(q.Container)
}

// JoinRequest is where to look for the cluster: host:port, or host with the default port.
type JoinRequest struct {
	Addresses []string `json:"addresses"`
}

// maxJoin bounds the addresses of one call; each may take its time.
const maxJoin = 64

func checkJoin(q JoinRequest) error {
	if n := len(q.Addresses); n == 0 || n > maxJoin {
		return Errorf(KindInvalid, "addresses: must be 1 to %d, not %d", maxJoin, n)
	}
	for _, addr := range q.Addresses {
		if !peerForm(addr) {
			return Errorf(KindInvalid, "addresses: %s is neither host:port nor a host", quote(addr))
		}
	}
	return nil
}

// peerForm reports whether s looks like host or host:port.
func peerForm(s string) bool {
	if hostForm(s) {
		return true
	}
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && n > 0 && hostForm(host)
}

// LeaveRequest takes this node out of the cluster, or, with the name of a failed node,
// removes that one.
type LeaveRequest struct {
	Name string `json:"name,omitempty"`
}

// KeyRequest changes the keys of the cluster.
type KeyRequest struct {
	Do  string `json:"do"`  // "add", "use" (as the primary), "remove"
	Key string `json:"key"` // 16, 24 or 32 bytes in base64
}

func checkKeyRequest(q KeyRequest) error {
	if q.Do != "add" && q.Do != "use" && q.Do != "remove" {
		return Errorf(KindInvalid, "do: must be add, use or remove")
	}
	if !CheckKey(strings.TrimSpace(q.Key)) {
		return Errorf(KindInvalid, "key: must be 16, 24 or 32 bytes in base64; effiscale keygen makes one")
	}
	return nil
}

// CheckKey reports whether s has the form of a gossip key: AES takes 16, 24 or 32 bytes.
func CheckKey(s string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && (len(b) == 16 || len(b) == 24 || len(b) == 32)
}
