package mech_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// acceptor is the server's side of GSSAPI (RFC 4121 calls it the acceptor).
type acceptor struct {
	t             *testing.T
	key           types.EncryptionKey // of the ticket
	subkey        types.EncryptionKey
	authenticator types.Authenticator // of the client
}

func newGSSAPI(t *testing.T, authzid string) (sasl.Client, *acceptor) {
	t.Helper()
	kind, err := crypto.GetEtype(etypeID.AES256_CTS_HMAC_SHA1_96)
	if err != nil {
		t.Fatal(err)
	}
	a := &acceptor{t: t}
	for _, key := range []*types.EncryptionKey{&a.key, &a.subkey} {
		if *key, err = types.GenerateEncryptionKey(kind); err != nil {
			t.Fatal(err)
		}
	}
	tkt := messages.Ticket{
		TktVNO:  5,
		Realm:   "EXAMPLE.ORG",
		SName:   types.NewPrincipalName(nametype.KRB_NT_SRV_HST, "pop/localhost"),
		EncPart: types.EncryptedData{EType: kind.GetETypeID(), KVNO: 1, Cipher: []byte("for the server")},
	}
	m := mech.NewGSSAPI(tkt, a.key, authzid)
	name, token, err := m.Start()
	if err != nil || name != "GSSAPI" {
		t.Fatalf("Start: %q, %v", name, err)
	}
	a.accept(token)
	return m, a
}

// tokenPrefix returns what precedes a message in a token (RFC 4121 §4.1): the identifier of
// Kerberos and the kind of message.
func tokenPrefix(kind byte) []byte {
	return []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, kind, 0x00}
}

// accept checks the client's first token and stores its authenticator.
func (a *acceptor) accept(token []byte) {
	a.t.Helper()
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(token, &outer); err != nil {
		a.t.Fatal(err)
	}
	body, ok := bytes.CutPrefix(outer.Bytes, tokenPrefix(1))
	var req messages.APReq
	if err := req.Unmarshal(body); err != nil || !ok {
		a.t.Fatalf("the token has no AP-REQ: %v", err)
	}
	if !types.IsFlagSet(&req.APOptions, flags.APOptionMutualRequired) {
		a.t.Error("mutual authentication is not requested")
	}
	if err := req.DecryptAuthenticator(a.key); err != nil {
		a.t.Fatal(err)
	}
	a.authenticator = req.Authenticator
}

// proof returns a token with an AP-REP, with the time and microseconds that must be those
// of the client's authenticator.
func (a *acceptor) proof(key types.EncryptionKey, ctime time.Time, cusec int) []byte {
	a.t.Helper()
	part, err := asn1.Marshal(messages.EncAPRepPart{CTime: ctime, Cusec: cusec, Subkey: a.subkey, SequenceNumber: 7})
	if err != nil {
		a.t.Fatal(err)
	}
	encrypted, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(part, 27), key, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.reply(encrypted)
}

// reply returns a token with an AP-REP.
func (a *acceptor) reply(encrypted types.EncryptedData) []byte {
	a.t.Helper()
	body, err := asn1.Marshal(messages.APRep{PVNO: 5, MsgType: 15, EncPart: encrypted})
	if err != nil {
		a.t.Fatal(err)
	}
	return asn1tools.AddASNAppTag(append(tokenPrefix(2), asn1tools.AddASNAppTag(body, 15)...), 0)
}

// offer returns a token with the server's offer of security layers.
func (a *acceptor) offer(key types.EncryptionKey, flag byte, payload ...byte) []byte {
	a.t.Helper()
	w := gssapi.WrapToken{Flags: flag, EC: 12, SndSeqNum: 7, Payload: payload}
	if err := w.SetCheckSum(key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil {
		a.t.Fatal(err)
	}
	token, err := w.Marshal()
	if err != nil {
		a.t.Fatal(err)
	}
	return token
}

// Flags of a Wrap token (RFC 4121 §4.2.2).
const fromAcceptor, sealed, subkey = 1, 2, 4

func TestGSSAPI(t *testing.T) {
	m, a := newGSSAPI(t, "bob")
	response, err := m.Next(a.proof(a.key, a.authenticator.CTime, a.authenticator.Cusec))
	if response == nil || len(response) > 0 || err != nil {
		t.Fatalf("response to the proof: %q, %v", response, err)
	}
	if err := done(m, nil); !errors.Is(err, mech.ErrUnproven) {
		t.Errorf("+OK before the last response: %v", err)
	}
	// A server may rotate the part after the header (RFC 4121 §4.2.5).
	offer := a.offer(a.subkey, fromAcceptor|subkey, 7, 0, 16, 0)
	binary.BigEndian.PutUint16(offer[6:], 28)
	body := offer[gssapi.HdrLen:]
	body = slices.Concat(body[len(body)-28%len(body):], body[:len(body)-28%len(body)])
	response, err = m.Next(append(offer[:gssapi.HdrLen:gssapi.HdrLen], body...))
	if err != nil {
		t.Fatal(err)
	}
	var choice gssapi.WrapToken
	if err := choice.Unmarshal(response, false); err != nil {
		t.Fatal(err)
	}
	if ok, err := choice.Verify(a.subkey, keyusage.GSSAPI_INITIATOR_SEAL); !ok {
		t.Errorf("the choice is not wrapped: %v", err)
	}
	if want := "\x01\x00\x00\x00bob"; string(choice.Payload) != want || choice.Flags != subkey {
		t.Errorf("the choice is %q with flags %d, want %q", choice.Payload, choice.Flags, want)
	}
	if err := done(m, nil); err != nil {
		t.Error(err)
	}
	if _, err := m.Next(nil); err == nil {
		t.Error("the mechanism responds to a challenge too many")
	}
}

// TestGSSAPIImpostor has a server that cannot decrypt the ticket.
func TestGSSAPIImpostor(t *testing.T) {
	for name, token := range map[string]func(*acceptor) []byte{
		"nothing":        func(*acceptor) []byte { return nil },
		"no token":       func(*acceptor) []byte { return []byte("hello") },
		"an error":       func(*acceptor) []byte { return asn1tools.AddASNAppTag(tokenPrefix(3), 0) },
		"an empty reply": func(*acceptor) []byte { return asn1tools.AddASNAppTag(tokenPrefix(2), 0) },
		"another key":    func(a *acceptor) []byte { return a.proof(a.subkey, a.authenticator.CTime, a.authenticator.Cusec) },
		"an old reply": func(a *acceptor) []byte {
			return a.proof(a.key, a.authenticator.CTime.Add(-time.Hour), a.authenticator.Cusec)
		},
		"another microsecond": func(a *acceptor) []byte { return a.proof(a.key, a.authenticator.CTime, a.authenticator.Cusec+1) },
		"trailing bytes": func(a *acceptor) []byte {
			return append(a.proof(a.key, a.authenticator.CTime, a.authenticator.Cusec), 0)
		},
		"no cipher":           func(a *acceptor) []byte { return a.reply(types.EncryptedData{EType: 18}) },
		"a short cipher":      func(a *acceptor) []byte { return a.reply(types.EncryptedData{EType: 18, Cipher: make([]byte, 11)}) },
		"an empty plain text": func(a *acceptor) []byte { return a.reply(types.EncryptedData{EType: 18, Cipher: make([]byte, 28)}) },
		"one byte":            func(a *acceptor) []byte { return a.reply(types.EncryptedData{EType: 18, Cipher: make([]byte, 29)}) },
		"garbage":             func(a *acceptor) []byte { return a.reply(types.EncryptedData{EType: 18, Cipher: make([]byte, 100)}) },
		"too long":            func(*acceptor) []byte { return make([]byte, 5000) },
	} {
		m, a := newGSSAPI(t, "")
		if response, err := m.Next(token(a)); err == nil {
			t.Errorf("%s is accepted as a proof: response %q", name, response)
		}
		if err := done(m, nil); !errors.Is(err, mech.ErrUnproven) {
			t.Errorf("%s, then +OK: %v", name, err)
		}
	}
}

// TestGSSAPIBadOffers has offers of security layers to which the client must not respond.
func TestGSSAPIBadOffers(t *testing.T) {
	for name, token := range map[string]func(*acceptor) []byte{
		"nothing":      func(*acceptor) []byte { return nil },
		"a header":     func(a *acceptor) []byte { return a.offer(a.subkey, fromAcceptor|subkey, 1, 0, 0, 0)[:16] },
		"another key":  func(a *acceptor) []byte { return a.offer(a.key, fromAcceptor, 1, 0, 0, 0) },
		"our own side": func(a *acceptor) []byte { return a.offer(a.subkey, subkey, 1, 0, 0, 0) },
		"sealed":       func(a *acceptor) []byte { return a.offer(a.subkey, fromAcceptor|subkey|sealed, 1, 0, 0, 0) },
		"layers only":  func(a *acceptor) []byte { return a.offer(a.subkey, fromAcceptor|subkey, 6, 0, 16, 0) },
		"three bytes":  func(a *acceptor) []byte { return a.offer(a.subkey, fromAcceptor|subkey, 1, 0, 0) },
		"altered": func(a *acceptor) []byte {
			token := a.offer(a.subkey, fromAcceptor|subkey, 6, 0, 16, 0)
			token[gssapi.HdrLen] = 7
			return token
		},
	} {
		m, a := newGSSAPI(t, "")
		if _, err := m.Next(a.proof(a.key, a.authenticator.CTime, a.authenticator.Cusec)); err != nil {
			t.Fatal(err)
		}
		if response, err := m.Next(token(a)); err == nil {
			t.Errorf("%s is accepted: response %q", name, response)
		}
		if err := done(m, nil); !errors.Is(err, mech.ErrUnproven) {
			t.Errorf("%s, then +OK: %v", name, err)
		}
	}
}

func FuzzGSSAPI(f *testing.F) {
	f.Add([]byte("hello"), []byte{5, 4, 1, 0xff, 0, 12, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, proof, offer []byte) {
		m, _ := newGSSAPI(t, "")
		if response, err := m.Next(proof); err == nil {
			t.Errorf("%q is accepted as a proof: response %q", proof, response)
		}
		m, a := newGSSAPI(t, "")
		if _, err := m.Next(a.proof(a.key, a.authenticator.CTime, a.authenticator.Cusec)); err != nil {
			t.Fatal(err)
		}
		if response, err := m.Next(offer); err == nil {
			t.Errorf("%q is accepted as an offer: response %q", offer, response)
		}
	})
}
