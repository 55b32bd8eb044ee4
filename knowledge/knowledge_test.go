package knowledge

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestServiceOf(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		name, name2 string
		label       string
		groups      []ServiceKey
		want        ServiceKey
	}{
		{"the container's name", "web", "", nil, "web"},
		{"its own label", "web", " shop ", []ServiceKey{"other"}, "shop"},
		{"the first group", "shop-web-1", "", []ServiceKey{"shop_web", "other"}, "shop_web"},
		{"the second group", "web.1.abc", "", []ServiceKey{"", "web"}, "web"},
		{"a hostile label (row 57)", "web", "a\x1b[31m", nil, "web"},
		{"a hostile group (row 57)", "web", "", []ServiceKey{"a\nb", ServiceKey(long)}, "web"},
		{"a long name", long, "", nil, ServiceKey(long[:128])},
		{"no name", "", "", nil, "unnamed"},
	} {
		labels := map[string]string{"effiscale.service": c.label}
		if got := ServiceOf(c.name2, labels, c.groups...); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestImageKeyOf(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	key := ImageKeyOf(digest, "nginx -g 'daemon off;'")
	if len(key) != 64+1+16 || key != ImageKeyOf(digest, "nginx -g 'daemon off;'") || key == ImageKeyOf(digest, "nginx") {
		t.Errorf("%q", key)
	}
	for _, bad := range []string{"", "sha256:", "sha256:" + strings.Repeat("0A", 32), "md5:" + strings.Repeat("0a", 32),
		strings.Repeat("0a", 32), digest + "0a", "nginx:latest"} {
		if got := ImageKeyOf(bad, "x"); got != "" {
			t.Errorf("%q has the key %q", bad, got)
		}
	}
}

func TestFromCores(t *testing.T) {
	for in, want := range map[float64]NanoCPU{
		0: 0, -1: 0, math.Inf(-1): 0, 0.25: 250_000_000, 0.29: 290_000_000, 1e-10: 0, 4096: MaxCPU, 5000: MaxCPU,
		math.Inf(1): MaxCPU,
	} {
		if got := FromCores(in); got != want {
			t.Errorf("FromCores(%g) = %d, want %d", in, got, want)
		}
	}
	if got := FromCores(math.NaN()); got != 0 { // row 36
		t.Errorf("NaN: %d", got)
	}
}

func TestTexts(t *testing.T) {
	for got, want := range map[string]string{
		NanoCPU(250e6).String(): "0.25", NanoCPU(5e6).String(): "0.005", NanoCPU(0).String(): "0.00",
		(128 * MiB).String(): "128 MiB", (GiB + GiB/2).String(): "1.5 GiB", Bytes(512).String(): "512 B",
		(-MiB).String(): "-1 MiB", Bytes(math.MinInt64).String(): "-8388608 TiB",
		Mode(77).String(): "unknown(77)",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestWordsTravel: what is written as a word is read as the same value.
func TestWordsTravel(t *testing.T) {
	for i := range len(resultNames) {
		var back Result
		b, _ := Result(i).MarshalText()
		if err := back.UnmarshalText(b); err != nil || back != Result(i) {
			t.Errorf("%s: %v, %v", b, back, err)
		}
	}
	var r Resource
	if err := r.UnmarshalText([]byte("disk")); err == nil || !strings.Contains(err.Error(), "cpu, memory") {
		t.Error(err)
	}
	if ParseRunState("frozen") != StateUnknown || ParseHealth("?") != HealthNone {
		t.Error("words that are not known")
	}
}

func TestMemoryRoom(t *testing.T) {
	for _, c := range []struct{ working, room Bytes }{
		{0, 8 * MiB}, {20 * MiB, 10 * MiB}, {200 * MiB, 64 * MiB}, {GiB, GiB * 15 / 100},
	} {
		if got := MemoryRoom(c.working); got != c.room {
			t.Errorf("room over %s is %s, want %s", c.working, got, c.room)
		}
	}
}

// Files of earlier versions hold limits in this form.
func TestLimitsOnDisk(t *testing.T) {
	const text = `{"CPU":500000000,"CPUField":2,"Period":50000000,"Shares":512,"Memory":268435456,"MemorySwap":-1}`
	want := Limits{CPU: OneCPU / 2, Dialect: 2, Period: DefaultPeriod / 2, Shares: 512, Memory: 256 * MiB, MemorySwap: -1}
	var l Limits
	if err := json.Unmarshal([]byte(text), &l); err != nil || l != want {
		t.Errorf("%+v, %v", l, err)
	}
	if b, err := json.Marshal(l); err != nil || string(b) != text {
		t.Errorf("%s, %v", b, err)
	}
}
