package member

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

// full is as long as metadata can be.
func full() Meta {
	return Meta{
		Name: strings.Repeat("n", maxName), Zone: strings.Repeat("z", maxZone), Version: strings.Repeat("v", maxBuild),
		Relay: strings.Repeat("r", maxRelay-6) + ":65535", Protocol: math.MaxUint8, Features: math.MaxUint32, State: Leaving,
		Cores: maxCores, Memory: knowledge.MaxBytes, Load: 100, Services: math.MaxUint32, Ring: math.MaxUint64,
		Started: math.MaxInt64,
		Keys:    [4]uint32{math.MaxUint32, 1, 2, 3}, Voters: Voters{math.MaxUint64, 1, 2, 3},
	}
}

func TestMetaFits(t *testing.T) {
	b, err := full().Pack()
	if err != nil || len(b) > 450 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	t.Logf("%d of %d bytes at most", len(b), maxMeta)
	if got, err := Unpack(append(b, "of a newer version"...)); err != nil || got != full() {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range b {
		if _, err := Unpack(b[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(b))
		}
	}
	if _, err := Unpack(make([]byte, maxMeta+1)); err == nil {
		t.Error("too long, and taken")
	}
}

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(most int, label string) string {
			return rapid.StringOfN(rapid.RuneFrom([]rune("abcä-._9")), 0, most/2, most).Draw(t, label)
		}
		m := Meta{
			Name: "n" + text(maxName-1, "name"), Zone: text(maxZone, "zone"), Version: text(maxBuild, "version"),
			Relay:    "10.0.0.1:80",
			Protocol: rapid.Byte().Draw(t, "protocol"), Features: rapid.Uint32().Draw(t, "features"),
			State: State(rapid.ByteMax(2).Draw(t, "state")), Load: rapid.ByteMax(100).Draw(t, "load"),
			Cores:  knowledge.NanoCPU(rapid.Int64Range(0, int64(maxCores)).Draw(t, "cores")),
			Memory: knowledge.Bytes(rapid.Int64Range(0, int64(knowledge.MaxBytes)).Draw(t, "memory")),
			Ring:   rapid.Uint64().Draw(t, "ring"), Started: rapid.Int64Min(0).Draw(t, "started"),
		}
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Unpack(b); err != nil || got != m {
			t.Fatalf("%+v, %v; want %+v", got, err, m)
		}
	})
}

// TestMetaOfOlderVersions: without voters the metadata is what older versions write, whose
// padding is no list. What an earlier version gossips of voters is read.
func TestMetaOfOlderVersions(t *testing.T) {
	m := full()
	m.Features &^= FeatureVoters | FeatureViews
	m.Voters = Voters{}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, pad := range []int{0, 1, 23, 24, 60} {
		if got, err := Unpack(append(b[:len(b):len(b)], make([]byte, pad)...)); err != nil || got != m {
			t.Errorf("padded with %d: %+v, %v", pad, got, err)
		}
	}
	m.Features |= FeatureVoters
	m.Voters = Voters{7, 8, 9, 10}
	if more, _ := m.Pack(); len(more) != len(b)+32 || string(more[len(b):len(b)+7]) != string(make([]byte, 7)) {
		t.Errorf("%d bytes, %d with voters: an older version must be able to skip them", len(b), len(more))
	}
	m.Features = m.Features&^FeatureVoters | FeatureViews
	if b, err = m.Pack(); err != nil || len(b) < 32 {
		t.Fatal(err)
	}
	copy(b[len(b)-16:], make([]byte, 16))
	b[len(b)-9], b[len(b)-1] = 1, 5 // the checksums of the newest list, and of the one in force
	if got, err := Unpack(b); err != nil || got.Voters != (Voters{7, 8, 5, 0}) {
		t.Errorf("an earlier version's voters: %+v, %v", got.Voters, err)
	}
}

func TestMetaBounds(t *testing.T) {
	for want, change := range map[string]func(*Meta){
		"needs a name":  func(m *Meta) { m.Name = "" },
		"longer than":   func(m *Meta) { m.Zone += "z" },
		"printed":       func(m *Meta) { m.Name = "a\x1b[2J" },
		"host:port":     func(m *Meta) { m.Relay = "host" },
		"no port":       func(m *Meta) { m.Relay = "host:0" },
		"cores":         func(m *Meta) { m.Cores = -1 },
		"memory":        func(m *Meta) { m.Memory = knowledge.MaxBytes + 1 },
		"above 100":     func(m *Meta) { m.Load = 101 },
		"have started ": func(m *Meta) { m.Started = -1 },
	} {
		m := full()
		change(&m)
		if _, err := m.Pack(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	m := full()
	m.State = 9
	if b, err := m.Pack(); err != nil {
		t.Error(err)
	} else if got, err := Unpack(b); err != nil || got.State != Waiting {
		t.Errorf("a state of a newer version: %v, %v", got.State, err)
	}
}

func FuzzUnpack(f *testing.F) {
	b, _ := full().Pack()
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{metaFormat, 1, 'a', 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Unpack(b)
		if err != nil {
			return
		}
		again, err := m.Pack()
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", m, err)
		}
		if got, err := Unpack(again); err != nil || got != m {
			t.Fatalf("%+v, %v; want %+v", got, err, m)
		}
	})
}

func FuzzUnpackByes(f *testing.F) {
	f.Add(packNotices([]notice{{idOf(1), 7}, {idOf(2), -1}}))
	f.Add([]byte("B"))
	f.Fuzz(func(t *testing.T, b []byte) {
		byes := unpackNotices(b)
		if len(byes) > maxNotices {
			t.Fatalf("%d goodbyes", len(byes))
		}
		if got := unpackNotices(packNotices(byes)); len(got) != len(byes) {
			t.Fatalf("%v became %v", byes, got)
		}
	})
}

func TestKeyFile(t *testing.T) {
	a, b := NewKey(), NewKey()
	if a == b {
		t.Fatal("the same key twice")
	}
	write := func(text string, mode os.FileMode) string {
		name := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	keys, err := ReadKeyFile(write("# ours\n\n"+a+"\n  "+b+"\r\n", 0o600))
	if err != nil || len(keys) != 2 || len(keys[0]) != 32 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if want, _ := ParseKey(a); KeyName(want) != KeyName(keys[0]) || len(KeyName(want)) != 8 {
		t.Error("the first key is not the first")
	}
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{a, 0o640, "others may read"},
		{a + "\nsecret", 0o600, "line 2: a key is 16, 24 or 32 bytes in base64: this is"},
		{"# none", 0o600, "0 keys"},
		{strings.Repeat(a+"\n", 5), 0o600, "5 keys"},
	} {
		_, err := ReadKeyFile(write(c.text, c.mode))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), a) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if _, err := ReadKeyFile(t.TempDir()); err == nil {
		t.Error("a directory")
	}
}
