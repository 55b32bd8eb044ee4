package member

import (
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestJudgeHead(t *testing.T) {
	const label = "\xf4\x04test"
	for head, want := range map[string]Cause{
		"\x06\x83\xa5Nodes\x03\xacUserStateLen\xcd\x03\xc1\xa4Join\xc3":                         "",
		"\x06\x83\xa4Join\xc2\xa5Nodes\xcd\x10\x00\xacUserStateLen\x00":                         "",
		"\x06\x83\xa5Nodes\xce\x00\x10\x00\x00\xacUserStateLen\x00\xa4Join\xc3":                 CauseGarbage,
		"\x06\x83\xa5Nodes\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xacUserStateLen\x00\xa4Join\xc3": CauseGarbage,
		"\x06\x83\xa5Nodes\x01\xacUserStateLen\xce\x01\x00\x00\x00\xa4Join\xc3":                 CauseGarbage,
		"\x06\x83\xa5nodes\x01\xacUserStateLen\x00\xa4Join\xc3":                                 CauseGarbage,
		"\x06\x93\xce\x00\x10\x00\x00\x00\xc3":                                                  CauseGarbage, // by place
		"\x06\xde\x00\x03\xa5Nodes\xce\x00\x10\x00\x00":                                         CauseGarbage,
		"\x06\x83\xa5Nodes\xca\x4f\x00\x00\x00\xacUserStateLen\x00\xa4Join\xc3":                 CauseGarbage, // a float
		"\x08\x81\xaaUserMsgLen\xce\x00\xff\xff\xff":                                            CauseGarbage,
		"\x09\x82\xa4Algo\x00": CauseCompressed,
		"\x0a\x00\x00\x00\x10": "", "\x00\x85\xa5SeqNo\x01": "", "\x0c\x81\xa5Error": "",
	} {
		for _, before := range []string{"", label} {
			said, told := Cause(""), -1
			for n := 1; n <= len(before+head); n++ { // byte by byte, as a stream may bring it
				cause, more := judgeHead([]byte(before + head)[:n])
				if cause != "" && more {
					t.Errorf("%q: %s, and more", head, cause)
				}
				if !more {
					said, told = cause, n
					break
				}
			}
			if said != want || told < 0 {
				t.Errorf("%q: %q after %d bytes, not %q", head, said, told, want)
			}
		}
	}
	if _, more := judgeHead([]byte("\xf4\xff" + strings.Repeat("x", headMost-2))); more {
		t.Error("a head without an end")
	}
}

// TestRow21HeldPromises: on a node without a key streams that promise a million members
// and say nothing more take no memory, however the promise comes; others join as before.
func TestRow21HeldPromises(t *testing.T) {
	all := three(t, func(_ int, o *Options) { o.Keys = nil })
	var s, e runtime.MemStats
	runtime.ReadMemStats(&s)
	for i := range 20 {
		c, err := net.Dial("tcp", all[0].Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		for _, part := range []string{"\xf4\x04te", "st\x06\x83\xa5No", "des\xce\x00\x10",
			"\x00\x00\xacUserStateLen\x00\xa4Join\xc3"} {
			_, _ = io.WriteString(c, part)
			if i == 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
		_, _ = io.Copy(io.Discard, c) // it is hung up on
	}
	runtime.ReadMemStats(&e)
	if got := (e.TotalAlloc - s.TotalAlloc) >> 20; got > 20 || all[0].Counts().Refused[CauseGarbage] < 20 {
		t.Errorf("%d MiB, refused %v", got, all[0].Counts().Refused)
	}
}
