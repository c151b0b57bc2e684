"""What trains: callbacks for `model.fit`."""
