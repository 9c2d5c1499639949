"""Checks OCSF events, one JSON a line on standard input, against the official schema 1.7 as pydantic-ocsf carries it.

The models let unknown attributes pass; here they are an error, but for those below `unmapped`, which is there for them.
Prints how many of each class there were; the first wrong event ends it.
"""

import collections
import json
import sys

from ocsf.v1_7_0.events import ApplicationLifecycle, EntityManagement
from pydantic import BaseModel

CLASSES = {3004: EntityManagement, 6002: ApplicationLifecycle}


def unknown(value, path):
    """Attributes that the schema does not have."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}"
        for name in type(value).model_fields:
            if name != "unmapped":
                yield from unknown(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from unknown(item, f"{path}[{n}]")


seen = collections.Counter()
for line in sys.stdin:
    event = json.loads(line)
    model = CLASSES[event["class_uid"]]
    try:
        read = model.model_validate(event)
        extra = list(unknown(read, "event"))
        assert not extra, f"not in the schema: {', '.join(extra)}"
        # The number of the type is that of the class and of the activity, and the names are those of the numbers.
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"], "type_uid"
        assert read.category_uid == event["category_uid"], f"category_uid {event['category_uid']}"
    except Exception as error:
        print(f"{line}\n{error}")
        sys.exit(1)
    seen[model.__name__] += 1
print(json.dumps(seen))
