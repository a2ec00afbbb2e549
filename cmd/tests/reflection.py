"""Uses the services as a stranger would: by server reflection, with no code generated from our .proto files.

Arguments: the addresses of feed, profile and topic. Ends with 0 when every answer is as the original's messages say.
"""
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Service:
    """One service, as its server describes it."""

    def __init__(self, address, name):
        self.channel = grpc.insecure_channel(address)
        database = ProtoReflectionDescriptorDatabase(self.channel)
        assert name in database.get_services(), database.get_services()
        self.service = descriptor_pool.DescriptorPool(database).FindServiceByName(name)

    def call(self, method, **fields):
        described = self.service.methods_by_name[method]
        request = message_factory.GetMessageClass(described.input_type)
        response = message_factory.GetMessageClass(described.output_type)
        path = f"/{self.service.full_name}/{method}"
        stub = self.channel.unary_unary(path, request.SerializeToString, response.FromString)
        return stub(request(**fields), timeout=10)

    def code(self, method, **fields):
        try:
            self.call(method, **fields)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


def tags(message):
    return {field.name: field.number for field in message.DESCRIPTOR.fields}


feed, profile, topic = (
    Service(address, name) for address, name in zip(sys.argv[1:], ["feed.Feed", "profile.Profile", "topic.Topic"])
)
for number in (101, 100):
    feed.call("CreateFeed", id=number, user_id=123, content=f"feed {number}")
feeds = feed.call("GetFeeds", user_id=123, size=2)
assert [(one.id, one.user_id, one.content) for one in feeds.feeds] == [(100, 123, "feed 100"), (101, 123, "feed 101")]
assert tags(feeds.feeds[0]) == {"id": 1, "user_id": 2, "content": 3}, tags(feeds.feeds[0])
assert feed.code("GetFeeds", user_id=0, size=2) == grpc.StatusCode.INVALID_ARGUMENT
assert feed.code("CreateFeed", id=1, user_id=1, content="a\0") == grpc.StatusCode.INVALID_ARGUMENT

profile.call("CreateProfile", user_id=123, name="Ada", company="Analytical Engines", title="Countess")
found = profile.call("GetProfile", user_id=123)
assert (found.user_id, found.name, found.company, found.title) == (123, "Ada", "Analytical Engines", "Countess")
assert tags(found) == {"user_id": 1, "name": 2, "company": 3, "title": 4, "feeds": 5}, tags(found)
assert [type(feeds.feeds[0]).FromString(one).id for one in found.feeds] == [100, 101]
assert profile.code("GetProfile", user_id=124) == grpc.StatusCode.NOT_FOUND

topic.call("CreateTopic", topic_id=2**63 - 1, subject="last", content="of all")
found = topic.call("GetTopic", topic_id=2**63 - 1)
assert (found.topic_id, found.subject, found.content) == (2**63 - 1, "last", "of all")
assert tags(found) == {"topic_id": 1, "subject": 2, "content": 3}, tags(found)
assert topic.code("GetTopic", topic_id=1) == grpc.StatusCode.NOT_FOUND
print("every answer is as the original's messages say")
