package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

func setReplicas(p *knowledge.Policy, s string) error {
	least, most, err := cutRange(s)
	if err != nil {
		return err
	}
	var r knowledge.ReplicaRange
	if errors.Join(countField{&r.Min, 0, 1000}.set(bare(least)), countField{&r.Max, 0, 1000}.set(bare(most))) != nil {
		return errors.New("has an end that is not 0 to 1000")
	}
	if r.Min > r.Max {
		return errors.New("has its minimum above its maximum")
	}
	p.Service.Replicas = &r
	return nil
}

func setTarget(p *knowledge.Policy, s string) error {
	name, value, _ := strings.Cut(s, "=")
	var t knowledge.ReplicaTarget
	f := field(factorField{&t.Value, 0.1, 1e6})
	switch name {
	case "cpu":
		t.Signal, f = knowledge.TargetCPU, shareField{p: &t.Value, least: 0.1, most: 1}
	case "rps":
		t.Signal = knowledge.TargetRequests
	case "concurrency":
		t.Signal = knowledge.TargetConcurrency
	case "latency_p50", "latency_p90", "latency_p95", "latency_p99":
		percent, _ := strconv.Atoi(strings.TrimPrefix(name, "latency_p")) // one of these four
		t.Signal, t.Quantile = knowledge.TargetLatency, float64(percent)/100
		f = spanField{&t.Latency, time.Millisecond, time.Minute}
	default:
		return errors.New("names no target that is known")
	}
	if err := f.set(bare(value)); err != nil {
		return fmt.Errorf("has a value that %w (%s)", err, f.allowed())
	}
	p.Service.Target = t
	return nil
}

func setPort(p *knowledge.Policy, s string) error {
	return countField{&p.Service.Port, 1, 65535}.set(bare(s))
}

// setListen accepts ":8088", "host:8088" or an http address.
func setListen(p *knowledge.Policy, s string) error {
	if !strings.Contains(s, "://") {
		if err := checkAddress(s); err != nil {
			return err
		}
		host, port, _ := net.SplitHostPort(s) // checked
		p.Service.Listen = knowledge.Listen{Host: host, Port: portOf(port)}
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil, hasControl(s), u.Scheme != "http" && u.Scheme != "https", !isHost(u.Hostname()), u.User != nil:
		return errors.New("is not an http address")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("has a query or a fragment")
	}
	if u.Port() != "" {
		if err := checkPort(u.Port()); err != nil {
			return err
		}
	}
	p.Service.Listen = knowledge.Listen{
		Scheme: u.Scheme, Host: u.Hostname(), Port: portOf(u.Port()), Path: u.EscapedPath(),
	}
	return nil
}

// portOf reads a port that checkPort accepted; empty: 0.
func portOf(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func setDrain(p *knowledge.Policy, s string) error { return setWait(&p.Service.Drain, s) }

func setReadyAfter(p *knowledge.Policy, s string) error { return setWait(&p.Service.ReadyAfter, s) }

func setWait(to **time.Duration, s string) error {
	var d time.Duration
	if err := (spanField{&d, 0, time.Hour}).set(bare(s)); err != nil {
		return err
	}
	*to = &d
	return nil
}
