-- A file of schema 3 that its own code wrote in the year 2100.
PRAGMA application_id=1836136705;
PRAGMA user_version=3;
BEGIN TRANSACTION;
CREATE TABLE agents (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,         -- the name, else the mailbox
  mailbox TEXT NOT NULL,
  generation TEXT NOT NULL,         -- of the mailbox it points at
  registered BLOB NOT NULL,         -- the JSON object as it came
  owner TEXT,                       -- the authenticated agent that registered it
  ttl_s INTEGER NOT NULL,
  expires_ms INTEGER,
  seen_ms INTEGER NOT NULL,
  status TEXT                       -- JSON
) STRICT;
INSERT INTO "agents" VALUES(1,'alice','inbox','fab428f762e6e282',X'7B226E616D65223A22616C696365222C226D61696C626F78223A22696E626F78227D','alice',0,NULL,4102444800000,NULL);
CREATE TABLE agents_removed (
  number INTEGER PRIMARY KEY,       -- ascending
  agent INTEGER NOT NULL            -- its agents.id, which is never used again
) STRICT;
CREATE TABLE checkpoints (
  token BLOB NOT NULL,
  previous BLOB NOT NULL            -- what the file holds until the next checkpoint
) STRICT;
INSERT INTO "checkpoints" VALUES(X'0FCCEEF3B65465566FB9E175A1983D34',X'B500DB4FB4395EDFD9CA11EF21FF5767');
CREATE TABLE delayed (
  id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of sending
  mailbox INTEGER NOT NULL,
  due_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  expires_ms INTEGER,
  key TEXT,
  tags TEXT NOT NULL,
  sender TEXT,
  sender_verified INTEGER NOT NULL,
  reply_to TEXT,
  correlation_id TEXT,
  path TEXT NOT NULL,
  headers TEXT,
  from_mailbox TEXT,
  size INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT;
INSERT INTO "delayed" VALUES(1,1,4133980800000,4102444800000,2,NULL,NULL,'','alice',1,'other','c3','',NULL,NULL,17,X'6C61746572');
CREATE TABLE deliveries (
  mailbox INTEGER NOT NULL,
  reply INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  position INTEGER NOT NULL,
  group_id INTEGER NOT NULL,
  previous INTEGER,                 -- the reply by which its consumer held it; NULL: it got the lease
  latest INTEGER,                   -- where it got the lease, which is over: the last reply of it
  count INTEGER NOT NULL,           -- how often the group had been given it by then
  acked INTEGER NOT NULL DEFAULT 0, -- where it got the lease: whether a later one was acked
  acked_by INTEGER,                 -- the msg_id that the confirming ACK named
  moved_to TEXT,                    -- where a MOVE put a copy of it
  moved_as INTEGER,                 -- the msg_id of that copy
  PRIMARY KEY (mailbox, reply, msg_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "deliveries" VALUES(1,0,0,0,1,NULL,NULL,1,0,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES(1,0,1,1,1,NULL,NULL,1,0,NULL,NULL,NULL);
CREATE TABLE erased (
  mailbox INTEGER PRIMARY KEY
) STRICT;
CREATE TABLE groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  mailbox INTEGER NOT NULL,
  name TEXT NOT NULL,
  start INTEGER NOT NULL,           -- the first msg_id that concerns the group
  critical INTEGER NOT NULL,        -- cursors: the next new msg_id of each lane is here or later
  urgent INTEGER NOT NULL,
  normal INTEGER NOT NULL,
  first_reply INTEGER NOT NULL,     -- replies before this one were voided by a reset
  used_ms INTEGER NOT NULL,
  reached INTEGER NOT NULL DEFAULT 0,      -- before a reset, what was new had this msg_id or more
  redelivered INTEGER NOT NULL DEFAULT 0,  -- the cost of its replies, together
  UNIQUE (mailbox, name)
) STRICT;
INSERT INTO "groups" VALUES(1,1,'inbox',0,0,0,2,0,4102444800000,0,0);
CREATE TABLE leases (
  group_id INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  mailbox INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  holder TEXT,                      -- NULL: free for anyone; '': given back, for nobody until until_ms
  until_ms INTEGER,
  deliveries INTEGER NOT NULL,
  reply INTEGER NOT NULL,           -- the latest reply that it was in
  granted INTEGER NOT NULL DEFAULT 0,      -- the one that gave the holder the lease
  returned INTEGER NOT NULL DEFAULT 0,     -- replies before this one were given back by a NACK
  begun INTEGER NOT NULL DEFAULT 0,        -- whether the holder has begun to handle it
  deaths INTEGER NOT NULL DEFAULT 0,       -- how many leases ended while it was begun
  PRIMARY KEY (group_id, msg_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "leases" VALUES(1,0,1,2,'',4102444860000,1,0,0,1,0,0);
INSERT INTO "leases" VALUES(1,1,1,2,'client.ac4c09c28206e7e35594aa6b',4102444860000,1,0,0,0,0,0);
CREATE TABLE mailboxes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,    -- never used again: rows of an erased one may linger
  address TEXT NOT NULL UNIQUE,
  generation TEXT NOT NULL,         -- tells this mailbox from earlier ones of the same address
  description TEXT NOT NULL,
  public INTEGER NOT NULL,
  type TEXT NOT NULL DEFAULT 'standard',   -- latest: of the visible messages it keeps the newest
  creator TEXT,                     -- the authenticated agent that made it
  readers TEXT NOT NULL DEFAULT '',        -- agents it was granted to, one a line
  viewers TEXT NOT NULL DEFAULT '',        -- agents that may look, one a line
  senders TEXT NOT NULL DEFAULT '',        -- agents that may send if the policy says so, one a line
  send_policy TEXT NOT NULL DEFAULT 'everyone',  -- who may send: everyone, granted or creator
  look_policy TEXT NOT NULL DEFAULT 'granted',   -- who may look: granted or everyone
  ttl_s INTEGER NOT NULL,           -- 0: never expires
  expires_ms INTEGER,
  changes_ms INTEGER,               -- no message falls due or expires before this
  next_msg_id INTEGER NOT NULL DEFAULT 0,
  next_reply INTEGER NOT NULL DEFAULT 0,
  visible_ms INTEGER NOT NULL DEFAULT 0,   -- of the newest message: create_time never decreases
  messages INTEGER NOT NULL DEFAULT 0,     -- visible and delayed
  delayed INTEGER NOT NULL DEFAULT 0,      -- of these
  bytes INTEGER NOT NULL DEFAULT 0,        -- their sizes together
  evict_from INTEGER NOT NULL DEFAULT 0,   -- no message below this one can make room
  ids INTEGER NOT NULL DEFAULT 0,          -- rows in sent_ids
  expired INTEGER NOT NULL DEFAULT 0,      -- messages removed so far, by reason
  replaced INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  evicted INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO "mailboxes" VALUES(1,'inbox','fab428f762e6e282','For schema 3',0,'standard','alice','','','','everyone','granted',0,NULL,4133980800000,3,1,4102444800000,4,1,86,0,4,0,0,0,0);
INSERT INTO "mailboxes" VALUES(2,'other','e5c1657c78c3a967','',0,'standard','alice','','','','everyone','granted',0,NULL,NULL,0,0,0,0,0,0,0,0,0,0,0,0);
CREATE TABLE message_counts (
  mailbox INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  block INTEGER NOT NULL,           -- msg_id / 512
  messages INTEGER NOT NULL,
  PRIMARY KEY (mailbox, priority, block)
) STRICT, WITHOUT ROWID;
CREATE TABLE messages (
  mailbox INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  visible_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  key TEXT,
  tags TEXT NOT NULL,               -- ",a,b," so that one tag is found by ",a,"
  sender TEXT,
  sender_verified INTEGER NOT NULL,
  reply_to TEXT,
  correlation_id TEXT,
  path TEXT NOT NULL,               -- "a,b"
  headers TEXT,                     -- JSON: value by name, in lower case
  from_mailbox TEXT,                -- one that the sender may take from; checked where it is verified
  moved TEXT,                       -- JSON: which mailbox it was moved here from, by whom, why
  size INTEGER NOT NULL,            -- in bytes, of the payload and all text beside it
  payload BLOB NOT NULL,            -- last, so that the other columns are read without it
  PRIMARY KEY (mailbox, msg_id)
) STRICT;
INSERT INTO "messages" VALUES(1,0,2,4102444800000,4102444800000,NULL,'k0','','alice',1,'other','c0','',NULL,NULL,NULL,23,X'6D6573736167652030');
INSERT INTO "messages" VALUES(1,1,2,4102444800000,4102444800000,NULL,'k1','','alice',1,'other','c1','',NULL,NULL,NULL,23,X'6D6573736167652031');
INSERT INTO "messages" VALUES(1,2,2,4102444800000,4102444800000,NULL,'k2','','alice',1,'other','c2','',NULL,NULL,NULL,23,X'6D6573736167652032');
CREATE TABLE moves (
  group_id INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  mailbox INTEGER NOT NULL,
  target TEXT NOT NULL,             -- the mailbox of the copy
  copy INTEGER NOT NULL,            -- the msg_id of the copy
  moved TEXT NOT NULL,              -- JSON: what the copy says of the move
  PRIMARY KEY (group_id, msg_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE notice_sessions (
  mailbox INTEGER NOT NULL,
  host TEXT NOT NULL,
  session TEXT NOT NULL,
  next_id INTEGER NOT NULL,         -- the first msg_id that it was not told of
  in_a_row INTEGER NOT NULL,        -- turns that began by a notice, since a person's prompt
  used_ms INTEGER NOT NULL,
  PRIMARY KEY (mailbox, host, session)
) STRICT, WITHOUT ROWID;
INSERT INTO "notice_sessions" VALUES(1,'h','s',3,0,4102444800000);
CREATE TABLE notices (
  mailbox INTEGER NOT NULL,
  number INTEGER NOT NULL,          -- ascending
  host TEXT NOT NULL,
  session TEXT NOT NULL,
  occasion TEXT NOT NULL,
  from_id INTEGER NOT NULL,         -- of these messages, the first and the last
  to_id INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  held TEXT,                        -- why it was held back; NULL: it was told
  most INTEGER,                     -- the limit that held it back
  PRIMARY KEY (mailbox, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "notices" VALUES(1,1,'h','s','start',2,2,4102444800000,NULL,NULL);
CREATE TABLE replies (
  mailbox INTEGER NOT NULL,
  number INTEGER NOT NULL,
  group_id INTEGER NOT NULL,
  consumer TEXT NOT NULL,
  request_id TEXT,
  made_ms INTEGER NOT NULL,
  copies INTEGER NOT NULL DEFAULT 1,   -- how often it was given: a FETCH may be repeated
  cost INTEGER NOT NULL DEFAULT 0,     -- bytes that it takes for messages delivered before
  first_reply INTEGER NOT NULL DEFAULT 0,   -- of its group, as it was
  critical INTEGER NOT NULL DEFAULT 0,      -- the cursors of its group, as it left them
  urgent INTEGER NOT NULL DEFAULT 0,
  normal INTEGER NOT NULL DEFAULT 0,
  ids TEXT,                            -- JSON: the messages of a whole batch, in order; else NULL
  critical_from INTEGER,               -- the cursors before: what is stored between was all in it
  urgent_from INTEGER,
  normal_from INTEGER,
  lowest INTEGER,                      -- of the ids
  highest INTEGER,
  until_ms INTEGER,                    -- the end of its lease, as long as nothing of it was acked
  acked_by INTEGER,                    -- the msg_id that the ACK named which confirmed all of it
  begun INTEGER NOT NULL DEFAULT 0,    -- of a whole batch, as in leases
  PRIMARY KEY (mailbox, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "replies" VALUES(1,0,1,'client.ac4c09c28206e7e35594aa6b','342f5d0a3a5e484200000001',4102444800000,1,0,0,0,0,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE sent_ids (
  mailbox INTEGER NOT NULL,
  id BLOB NOT NULL,                 -- x'01', the sender, it; if long x'02', a digest of the sender and
                                    -- its beginning, its end
  digest BLOB NOT NULL,             -- of the body
  answer INTEGER NOT NULL,          -- the first answer: a msg_id, or -1; of a delayed message -1 less
                                    -- its id
  sent_ms INTEGER NOT NULL,
  PRIMARY KEY (mailbox, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "sent_ids" VALUES(1,X'01616C6963650A333432663564306133613565343834323030303030303030',X'7587D05E60A751D24E926E906EE2600D',-2,4102444800000);
INSERT INTO "sent_ids" VALUES(1,X'01616C6963650A696430',X'A60A0E459806D9D9F6D983993AD793FA',0,4102444800000);
INSERT INTO "sent_ids" VALUES(1,X'01616C6963650A696431',X'B33C7B346CD5F9757356ABC2E0295DA4',1,4102444800000);
INSERT INTO "sent_ids" VALUES(1,X'01616C6963650A696432',X'46400375EBECD87371FB685346C296D8',2,4102444800000);
CREATE TABLE state (
  applied INTEGER NOT NULL,         -- the index of the last entry
  now_ms INTEGER NOT NULL,          -- when that happened; nothing happens before it
  max_payload INTEGER NOT NULL DEFAULT 1048576,
  max_registration INTEGER NOT NULL DEFAULT 65536,
  max_mailboxes INTEGER NOT NULL DEFAULT 100000,
  max_messages INTEGER NOT NULL DEFAULT 100000,
  max_bytes INTEGER NOT NULL DEFAULT 1073741824,
  max_agents INTEGER NOT NULL DEFAULT 200000,
  max_groups INTEGER NOT NULL DEFAULT 1000,
  max_ids INTEGER NOT NULL DEFAULT 10000000,
  max_redelivered INTEGER NOT NULL DEFAULT 268435456,
  expired INTEGER NOT NULL DEFAULT 0,      -- messages removed from mailboxes that are gone, by reason
  replaced INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  evicted INTEGER NOT NULL DEFAULT 0,
  dropped INTEGER NOT NULL DEFAULT 0       -- messages that went with their mailbox
) STRICT;
INSERT INTO "state" VALUES(10,4102444800000,1048576,65536,100000,100000,1073741824,200000,1000,10000000,268435456,0,0,0,0,0);
CREATE TABLE tombstones (
  mailbox INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  reason TEXT NOT NULL,
  removed_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  visible_ms INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  replaced_by INTEGER,              -- the message that took its key
  PRIMARY KEY (mailbox, msg_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mailboxes_expiry ON mailboxes (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX mailboxes_changes ON mailboxes (changes_ms) WHERE changes_ms IS NOT NULL;
CREATE INDEX mailboxes_public ON mailboxes (address) WHERE public = 1;
CREATE INDEX mailboxes_creator ON mailboxes (creator, address) WHERE creator IS NOT NULL;
CREATE INDEX messages_lane ON messages (mailbox, priority, msg_id, expires_ms);
CREATE UNIQUE INDEX messages_key ON messages (mailbox, key) WHERE key IS NOT NULL;
CREATE INDEX messages_correlation ON messages (correlation_id, mailbox, msg_id)
  WHERE correlation_id IS NOT NULL;
CREATE INDEX messages_sent ON messages (sender, sent_ms, correlation_id)
  WHERE sender IS NOT NULL AND correlation_id IS NOT NULL;
CREATE INDEX messages_expiry ON messages (mailbox, expires_ms) WHERE expires_ms IS NOT NULL;
CREATE TRIGGER messages_removed AFTER DELETE ON messages BEGIN
  UPDATE message_counts SET messages = messages - 1
    WHERE mailbox = old.mailbox AND priority = old.priority AND block = old.msg_id >> 9;
  DELETE FROM message_counts
    WHERE mailbox = old.mailbox AND priority = old.priority AND block = old.msg_id >> 9
    AND messages = 0;
END;
CREATE INDEX delayed_due ON delayed (mailbox, due_ms, id);
CREATE INDEX delayed_sent ON delayed (sender, sent_ms, correlation_id)
  WHERE sender IS NOT NULL AND correlation_id IS NOT NULL;
CREATE INDEX sent_ids_age ON sent_ids (sent_ms);
CREATE INDEX tombstones_age ON tombstones (removed_ms);
CREATE INDEX groups_use ON groups (used_ms);
CREATE INDEX leases_order ON leases (group_id, holder, priority, msg_id);
CREATE INDEX leases_end ON leases (group_id, until_ms) WHERE until_ms IS NOT NULL;
CREATE INDEX leases_message ON leases (mailbox, msg_id);
CREATE INDEX replies_request ON replies (group_id, request_id, consumer, number)
  WHERE request_id IS NOT NULL;
CREATE INDEX replies_group ON replies (group_id, number);
CREATE INDEX replies_age ON replies (made_ms);
CREATE INDEX replies_holder ON replies (group_id, consumer, until_ms) WHERE until_ms IS NOT NULL;
CREATE INDEX replies_end ON replies (group_id, until_ms) WHERE until_ms IS NOT NULL;
CREATE INDEX replies_lowest ON replies (mailbox, lowest) WHERE until_ms IS NOT NULL;
CREATE INDEX deliveries_message ON deliveries (group_id, msg_id, reply) WHERE previous IS NULL;
CREATE INDEX moves_message ON moves (mailbox, msg_id);
CREATE INDEX agents_mailbox ON agents (mailbox);
CREATE INDEX agents_expiry ON agents (expires_ms) WHERE expires_ms IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('mailboxes',2);
INSERT INTO "sqlite_sequence" VALUES('delayed',1);
INSERT INTO "sqlite_sequence" VALUES('groups',1);
INSERT INTO "sqlite_sequence" VALUES('agents',1);
COMMIT;
